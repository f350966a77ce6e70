//! What a worker is not given again: a prompt as long as one that ended a worker of the same model.
//!
//! A caller whose request ended with its worker tries again, and the next worker would end in the same way. A
//! length is to blame only if it is great, and greater than any that was read without harm.

use super::worker_monitor::PromptLengths;
use crate::model::Reason;

/// A prompt that ended a worker while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatalPrompt {
    /// Its length in tokens.
    pub tokens: u64,
    /// How the worker ended.
    pub reason: Reason,
}

/// What happened to the prompts of one model, as long as its spec makes the same engine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PromptHistory {
    longest_read: u64,
    fatal: Option<FatalPrompt>,
}

/// Shorter prompts end no worker by their length.
const LEAST: u64 = 256;

// === impl PromptHistory ===

impl PromptHistory {
    /// A worker that had these prompts ended, or is about to be killed, for this reason.
    pub(super) fn worker_ended(&mut self, prompts: PromptLengths, reason: Reason) {
        self.longest_read = self.longest_read.max(prompts.longest_read);
        let by_itself = matches!(
            reason,
            Reason::WorkerDied | Reason::WorkerHung | Reason::InsufficientMemory
        );
        let tokens = prompts.reading;
        if by_itself && tokens >= LEAST && tokens > self.longest_read {
            self.fatal = Some(FatalPrompt { tokens, reason });
        }
    }

    /// The shortest prompt that is not to be read again.
    pub(super) fn fatal(&self) -> Option<FatalPrompt> {
        self.fatal
    }

    /// Somebody wants it to be tried again.
    pub(super) fn forgive(&mut self) {
        self.fatal = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(reading: u64, longest_read: u64) -> PromptLengths {
        PromptLengths {
            in_flight: 1,
            reading,
            longest_read,
        }
    }

    #[test]
    fn only_a_length_that_was_never_read_is_to_blame() {
        let mut history = PromptHistory::default();
        history.worker_ended(lengths(LEAST - 1, 0), Reason::WorkerDied);
        history.worker_ended(lengths(3000, 4000), Reason::WorkerDied);
        history.worker_ended(lengths(4000, 0), Reason::WorkerDied);
        history.worker_ended(lengths(9000, 0), Reason::ModelUnloaded);
        assert_eq!(history.fatal(), None);
        history.worker_ended(lengths(9000, 0), Reason::WorkerHung);
        history.worker_ended(lengths(8000, 0), Reason::WorkerDied);
        let fatal = history.fatal().expect("a fatal prompt");
        assert_eq!((fatal.tokens, fatal.reason), (8000, Reason::WorkerDied));
        history.forgive();
        assert_eq!(history.fatal(), None);
    }
}
