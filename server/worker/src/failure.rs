//! Why a model cannot be served, in words that a person can act upon.
//!
//! A [`Failure`] is the fault of the model, the spec or the machine, or else named as one of the worker's own. Its message
//! says what is wrong and what to do, is one paragraph of at most [`MAX_MESSAGE`] bytes, and holds no backtrace.

use std::any::Any;

use hangar_worker_protocol::{FailureReason, v1::WorkerFailure};

/// Longest message in bytes.
pub(crate) const MAX_MESSAGE: usize = 1000;

/// Why the worker cannot serve its model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.name())]
pub(crate) struct Failure {
    /// What is at fault.
    pub(crate) reason: FailureReason,
    /// One paragraph.
    pub(crate) message: String,
}

impl Failure {
    /// The model's files are missing, corrupt or not supported, or the loaded model cannot answer.
    pub(crate) fn unusable(message: impl AsRef<str>) -> Self {
        Self::new(FailureReason::ModelUnusable, message)
    }

    /// The device is not there, or this build of the worker cannot use it.
    pub(crate) fn device(message: impl AsRef<str>) -> Self {
        Self::new(FailureReason::DeviceUnavailable, message)
    }

    /// The device has not enough memory.
    pub(crate) fn memory(message: impl AsRef<str>) -> Self {
        Self::new(FailureReason::InsufficientMemory, message)
    }

    /// The disk is full.
    pub(crate) fn storage(message: impl AsRef<str>) -> Self {
        Self::new(FailureReason::StorageFull, message)
    }

    /// The worker or its caller did something wrong.
    pub(crate) fn internal(message: impl AsRef<str>) -> Self {
        Self::new(FailureReason::Internal, message)
    }

    fn new(reason: FailureReason, message: impl AsRef<str>) -> Self {
        Self {
            reason,
            message: one_paragraph(message.as_ref()),
        }
    }
}

impl From<Failure> for WorkerFailure {
    fn from(failure: Failure) -> Self {
        Self::new(failure.reason, failure.message)
    }
}

/// Puts a text of the engine into one paragraph of at most [`MAX_MESSAGE`] bytes: without a backtrace,
/// line ends and control characters.
pub(crate) fn one_paragraph(text: &str) -> String {
    let mut words = String::new();
    for line in text.lines() {
        if is_backtrace(line) {
            break;
        }
        for word in line.split(|c: char| c.is_whitespace() || c.is_control()) {
            if word.is_empty() {
                continue;
            }
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
    }
    if words.len() > MAX_MESSAGE {
        words.truncate(words.floor_char_boundary(MAX_MESSAGE - '…'.len_utf8()));
        words.push('…');
    }
    words
}

/// At most the first `longest` characters of a text, for a message.
pub(crate) fn truncated(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The message of a caught panic.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the engine panicked without a message".to_owned())
}

/// Whether the engine's words are those of CUDA about memory that is not there.
pub(crate) fn is_out_of_memory(why: &str) -> bool {
    [
        "OUT_OF_MEMORY",
        "out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
    ]
    .iter()
    .any(|words| why.contains(words))
}

fn is_backtrace(line: &str) -> bool {
    let line = line.trim_start();
    let frame = || {
        let digits = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        digits > 0 && line[digits..].starts_with(": ")
    };
    line.starts_with("stack backtrace:") || line.starts_with("Stack backtrace:") || frame()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn lines_become_one_paragraph() {
        assert_eq!(one_paragraph("a\n  b\tc\r\n\nd"), "a b c d");
    }

    #[bounded::test]
    fn a_backtrace_is_left_out() {
        let text = "shape mismatch\n   0: candle_core::error\n   1: main";
        assert_eq!(one_paragraph(text), "shape mismatch");
        let text = "shape mismatch\n\nStack backtrace:\n  whatever";
        assert_eq!(one_paragraph(text), "shape mismatch");
    }

    #[bounded::test]
    fn a_long_text_is_cut_at_a_character() {
        let cut = one_paragraph(&"ä".repeat(MAX_MESSAGE));
        assert!(cut.len() <= MAX_MESSAGE);
        assert!(cut.ends_with('…'));
    }
}
