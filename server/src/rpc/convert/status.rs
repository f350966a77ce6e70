//! Where a model stands.

use hangar_client::v1;

use super::reason;
use crate::{
    model::{LoadPhase, ModelMemory, Progress, Stage, Status, SuspendCause, Suspension},
    wire::duration,
};

/// Where a model stands.
pub(in crate::rpc) fn status(status: &Status) -> v1::ModelStatus {
    v1::ModelStatus {
        model_id: status.model_id.to_string(),
        state: state(status.stage).into(),
        generation: status.generation.0,
        load_id: status
            .load_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
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
        next_load_id: status
            .next_load
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
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
    let phase = match progress.phase {
        LoadPhase::Pending => v1::LoadPhase::Pending,
        LoadPhase::Downloading => v1::LoadPhase::Downloading,
        LoadPhase::Starting => v1::LoadPhase::Starting,
        LoadPhase::Loading => v1::LoadPhase::Loading,
        LoadPhase::Warming => v1::LoadPhase::Warming,
    };
    v1::Progress {
        phase: phase.into(),
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        fraction: progress.fraction,
        eta: progress.eta.and_then(duration),
    }
}

fn state(stage: Stage) -> v1::ModelState {
    match stage {
        Stage::Unloaded => v1::ModelState::Unloaded,
        Stage::Pending => v1::ModelState::Pending,
        Stage::Downloading => v1::ModelState::Downloading,
        Stage::Starting => v1::ModelState::Starting,
        Stage::Loading => v1::ModelState::Loading,
        Stage::Warming => v1::ModelState::Warming,
        Stage::Ready => v1::ModelState::Ready,
        Stage::Draining => v1::ModelState::Draining,
        Stage::Unloading => v1::ModelState::Unloading,
        Stage::Backoff => v1::ModelState::Backoff,
        Stage::Failed => v1::ModelState::Failed,
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn every_state_of_the_api_is_a_stage_under_the_same_name() {
        for &stage in Stage::VARIANTS {
            let name = format!("MODEL_STATE_{}", stage.name().to_uppercase());
            assert_eq!(state(stage).as_str_name(), name);
        }
        let states = (1..).map_while(|number| v1::ModelState::try_from(number).ok());
        assert_eq!(states.count(), Stage::VARIANTS.len());
    }
}
