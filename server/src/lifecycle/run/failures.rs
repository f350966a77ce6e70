//! Why a run came to nothing, in words for whoever loads the model.

use std::time::Duration;

use hangar_client::worker::v1::WorkerFailure;

use crate::{
    model::{Failure, Reason},
    worker::{Exit, SpawnError},
};

pub(super) fn told(failure: WorkerFailure) -> Failure {
    let reason = Reason::from_name(&failure.reason).unwrap_or(Reason::ModelUnusable);
    Failure::new(reason, failure.message)
}

pub(super) fn silent(limit: Duration) -> Failure {
    let message = format!(
        "the worker was not ready within {:.1} s; load again, or raise --ready-timeout",
        limit.as_secs_f64()
    );
    Failure::new(Reason::LoadStalled, message)
}

pub(super) fn unstarted() -> Failure {
    Failure::new(
        Reason::WorkerDied,
        "the load ended before its worker was started; check that the model's file system answers",
    )
}

pub(super) fn deaf() -> Failure {
    Failure::new(
        Reason::WorkerDied,
        "the worker closed its connection; it was killed",
    )
}

pub(super) fn died(exit: Exit, last_words: &[String]) -> Failure {
    let mut message = format!("the worker process {exit}");
    let starved = last_words
        .iter()
        .any(|line| line.starts_with("memory allocation of "));
    if starved {
        message.push_str(
            " because it needed more memory than it was admitted with; give the model a memory_hint, or a shorter \
             context_length",
        );
        return Failure::new(Reason::InsufficientMemory, message);
    }
    if exit == Exit::Signal(9) {
        message.push_str("; unless somebody killed it, the system may have run out of memory");
    }
    if let Some(words) = last_words.last() {
        message.push_str("; its last words were: ");
        message.extend(words.chars().take(400));
    }
    Failure::new(Reason::WorkerDied, message)
}

pub(super) fn cannot_start(error: &SpawnError) -> Failure {
    let message = match error {
        SpawnError::Execute { path, source } => {
            format!(
                "the worker {path} cannot be started: {source}; install hangar-worker beside hangar, or give --worker"
            )
        }
        SpawnError::Handshake(error) => error.to_string(),
    };
    Failure::new(Reason::DeviceUnavailable, message)
}
