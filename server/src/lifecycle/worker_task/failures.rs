//! Why a worker came to nothing, in words for whoever loads the model.

use std::time::Duration;

use hangar_worker_protocol::{ExitCode, processor};

use crate::{
    model::{Failure, Reason},
    worker::{SpawnError, WorkerExit},
};

pub(super) fn never_ready(limit: Duration) -> Failure {
    let message = format!(
        "the worker was not ready within {:.1} s; load again, or raise --ready-timeout",
        limit.as_secs_f64()
    );
    Failure::new(Reason::LoadStalled, message)
}

pub(super) fn never_started() -> Failure {
    Failure::new(
        Reason::WorkerDied,
        "the load ended before its worker was started; check that the model's file system answers",
    )
}

pub(super) fn connection_closed() -> Failure {
    Failure::new(
        Reason::WorkerDied,
        "the worker closed its connection; it was killed",
    )
}

pub(super) fn worker_exited(exit: WorkerExit, stderr_tail: &[String]) -> Failure {
    if exit == WorkerExit::KilledAfterPanic {
        return Failure::of_panicked_task();
    }
    if exit == WorkerExit::Code(ExitCode::Processor as i32) {
        return wrong_processor(stderr_tail);
    }
    if exit == WorkerExit::Code(LOADER_FAILED)
        && let Some(library) = stderr_tail.iter().find_map(|line| missing_library(line))
    {
        return without_library(library);
    }
    let mut message = format!("the worker process {exit}");
    let starved = stderr_tail
        .iter()
        .any(|line| line.starts_with("memory allocation of "));
    if starved {
        message.push_str(
            " because it needed more memory than it was admitted with; give the model a memory_hint, or a shorter \
             context_length",
        );
        return Failure::new(Reason::InsufficientMemory, message);
    }
    if exit == WorkerExit::Signal(9) {
        message.push_str("; unless somebody killed it, the system may have run out of memory");
    }
    if let Some(stderr) = stderr_tail.last() {
        message.push_str("; its last words were: ");
        message.extend(stderr.chars().take(400));
    }
    Failure::new(Reason::WorkerDied, message)
}

fn wrong_processor(stderr_tail: &[String]) -> Failure {
    let missing = stderr_tail
        .iter()
        .find_map(|line| line.strip_prefix(processor::MISSING));
    let message = format!(
        "the worker cannot be started: it was built for a processor that can do more than this machine's{}{}; build \
         Hangar on this machine, or install a worker for all machines beside hangar, or name one with --worker",
        if missing.is_some() {
            ", which does not have "
        } else {
            ""
        },
        missing.unwrap_or_default()
    );
    Failure::new(Reason::DeviceUnavailable, message)
}

/// Status with which the dynamic loader ends a program that it cannot start.
const LOADER_FAILED: i32 = 127;

/// The library that the dynamic loader says it did not find.
fn missing_library(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("error while loading shared libraries: ")?;
    let (library, _) = rest.split_once(": ")?;
    Some(library)
}

fn without_library(library: &str) -> Failure {
    let advice = if library.starts_with("libcuda.so") {
        "it comes with the NVIDIA driver: install that, in a container let the NVIDIA runtime bring it"
    } else {
        "CUDA's libraries are in NVIDIA's CUDA runtime package and images, of the release that the worker was built \
         for: install that, or name the directory that has it in hangar's LD_LIBRARY_PATH, and start hangar again"
    };
    let message =
        format!("the worker cannot be started: the library {library} is missing; {advice}");
    Failure::new(Reason::DeviceUnavailable, message).about(library)
}

pub(super) fn cannot_start(error: &SpawnError) -> Failure {
    let message = match error {
        SpawnError::Execute { path, source } => {
            format!(
                "the worker {path} cannot be started: {source}; install it beside hangar, or give \
                 --worker or --worker-cuda"
            )
        }
        SpawnError::Handshake(error) => error.to_string(),
    };
    Failure::new(Reason::DeviceUnavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stderr(line: &str) -> Vec<String> {
        vec!["something else".to_owned(), line.to_owned()]
    }

    #[bounded::test]
    fn a_library_that_the_loader_misses_is_named_with_where_it_comes_from() {
        for (library, from) in [
            ("libcuda.so.1", "NVIDIA driver"),
            ("libcudart.so.13", "LD_LIBRARY_PATH"),
        ] {
            let line = format!(
                "/opt/hangar-worker-cuda: error while loading shared libraries: {library}: cannot open shared object \
                 file: No such file or directory"
            );
            let failure = worker_exited(WorkerExit::Code(127), &stderr(&line));
            assert_eq!(failure.reason, Reason::DeviceUnavailable);
            assert_eq!(failure.subject.as_deref(), Some(library));
            assert!(failure.message.contains(library), "{}", failure.message);
            assert!(failure.message.contains(from), "{}", failure.message);
        }
    }

    #[bounded::test]
    fn a_worker_for_another_processor_is_named_with_what_it_needs() {
        let line = format!("{}avx2 fma", processor::MISSING);
        let failure = worker_exited(WorkerExit::Code(74), &stderr(&line));
        assert_eq!(failure.reason, Reason::DeviceUnavailable);
        assert!(
            failure.message.contains("not have avx2 fma; build"),
            "{}",
            failure.message
        );
        let silent = worker_exited(WorkerExit::Code(74), &[]);
        assert!(
            silent.message.contains("this machine's; build"),
            "{}",
            silent.message
        );
    }

    #[bounded::test]
    fn other_deaths_are_no_missing_library() {
        let line = "error while loading shared libraries: libx.so: cannot open shared object file";
        let crashed = worker_exited(WorkerExit::Signal(11), &stderr(line));
        assert_eq!(crashed.reason, Reason::WorkerDied);
        let strange = worker_exited(WorkerExit::Code(127), &stderr("command not found"));
        assert_eq!(strange.reason, Reason::WorkerDied);
    }
}
