//! Where a model stands.

use hangar_client::v1;

use super::reason;
use crate::{
    model::{LoadPhase, ModelMemory, Progress, StateKind, Status, SuspendCause, Suspension},
    wire::{duration_message, text},
};

/// Where a model stands.
pub(in crate::rpc) fn status(status: &Status) -> v1::ModelStatus {
    v1::ModelStatus {
        model_id: status.model_id.to_string(),
        state: state(status.state).into(),
        generation: status.generation.0,
        load_id: text(status.load_id.as_ref()),
        progress: status.progress.map(progress),
        reason: reason(status.failure.as_ref()),
        message: match (&status.failure, &status.suspended) {
            (Some(failure), _) => failure.message.clone(),
            (None, Some(suspension)) => suspension.message.clone(),
            (None, None) => String::new(),
        },
        memory: status.memory.map(memory),
        worker_pid: status.worker_pid.unwrap_or_default(),
        attempt: status.attempt,
        next_retry_time: status.next_retry.map(Into::into),
        restarts: status.restarts,
        in_flight: status.in_flight,
        queued: status.queued,
        since: Some(status.since.into()),
        suspend_reason: suspend_reason(status.suspended.as_ref()).into(),
        next_load_id: text(status.next_load.as_ref()),
    }
}

/// Why a model is not loaded although it was asked for.
pub(in crate::rpc) fn suspend_reason(suspended: Option<&Suspension>) -> v1::SuspendReason {
    match suspended.map(|suspension| suspension.cause) {
        None => v1::SuspendReason::Unspecified,
        Some(SuspendCause::Evicted) => v1::SuspendReason::Evicted,
        Some(SuspendCause::Idle) => v1::SuspendReason::Idle,
    }
}

/// What a worker holds.
pub(in crate::rpc) fn memory(memory: ModelMemory) -> v1::ModelMemory {
    v1::ModelMemory {
        host_bytes: memory.host_bytes,
        device_bytes: memory.device_bytes,
    }
}

fn progress(progress: Progress) -> v1::Progress {
    v1::Progress {
        phase: phase(progress.phase).into(),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        fraction: progress.fraction,
        eta: progress.eta.and_then(duration_message),
    }
}

/// The state of the API with the name of `kind`.
fn state(kind: StateKind) -> v1::ModelState {
    let name = format!("MODEL_STATE_{}", kind.name().to_uppercase());
    v1::ModelState::from_str_name(&name).unwrap_or_default()
}

/// The phase of the API with the name of `phase`.
fn phase(phase: LoadPhase) -> v1::LoadPhase {
    let name = format!("LOAD_PHASE_{}", phase.name().to_uppercase());
    v1::LoadPhase::from_str_name(&name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[bounded::test]
    fn every_state_of_the_api_is_a_stage_under_the_same_name() {
        for &kind in StateKind::VARIANTS {
            let name = format!("MODEL_STATE_{}", kind.name().to_uppercase());
            assert_eq!(state(kind).as_str_name(), name);
        }
        let states = (1..).map_while(|number| v1::ModelState::try_from(number).ok());
        assert_eq!(states.count(), StateKind::VARIANTS.len());
    }

    #[bounded::test]
    fn every_phase_of_the_api_is_one_of_a_load_under_the_same_name() {
        for &of_load in LoadPhase::VARIANTS {
            let name = format!("LOAD_PHASE_{}", of_load.name().to_uppercase());
            assert_eq!(phase(of_load).as_str_name(), name);
        }
        let phases = (1..).map_while(|number| v1::LoadPhase::try_from(number).ok());
        assert_eq!(phases.count(), LoadPhase::VARIANTS.len());
    }
}
