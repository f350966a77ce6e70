//! What loads did and taught.

use hangar_client::v1;

use super::{memory, pace, reason};
use crate::{
    catalog::LearnedFacts,
    model::{FatalPrompt, LoadOutcome, LoadRecord},
    wire::duration_message,
};

/// What earlier loads have taught.
pub(in crate::rpc) fn learned(learned: &LearnedFacts) -> v1::LearnedFacts {
    let failure = learned.last_failure.as_ref();
    v1::LearnedFacts {
        memory: learned.memory.as_ref().map(|known| memory(known.ready)),
        load_duration: learned.metadata.load_duration.and_then(duration_message),
        loads_succeeded: learned.loads_succeeded,
        loads_failed: learned.loads_failed,
        last_failure_reason: reason(failure.map(|(failure, _)| failure)),
        last_failure_message: failure
            .map(|(failure, _)| failure.message.clone())
            .unwrap_or_default(),
        last_failure_time: failure.map(|(_, time)| (*time).into()),
        pace: learned.pace.as_ref().map(|known| pace(known.pace)),
    }
}

/// A prompt that ended workers.
pub(in crate::rpc) fn fatal_prompt(fatal: FatalPrompt) -> v1::FatalPrompt {
    v1::FatalPrompt {
        tokens: fatal.tokens,
        reason: fatal.reason.name().to_owned(),
        deaths: fatal.deaths,
    }
}

/// How a load ended.
pub(in crate::rpc) fn load_record(record: &LoadRecord) -> v1::LoadRecord {
    let (outcome, failure) = match &record.outcome {
        LoadOutcome::Succeeded => (v1::LoadOutcome::Succeeded, None),
        LoadOutcome::Failed(failure) => (v1::LoadOutcome::Failed, Some(failure)),
        LoadOutcome::Cancelled => (v1::LoadOutcome::Cancelled, None),
    };
    v1::LoadRecord {
        load_id: record.load_id.to_string(),
        outcome: outcome.into(),
        reason: reason(failure),
        message: failure.map(|f| f.message.clone()).unwrap_or_default(),
        start_time: Some(record.started.into()),
        end_time: Some(record.ended.into()),
        attempts: record.attempts,
    }
}
