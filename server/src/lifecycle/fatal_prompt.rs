//! What a worker is not given again: a prompt as long as one that ended workers of the same model.
//!
//! A caller whose request ended with its worker tries again, and the next worker would end in the same way. But workers
//! end for many reasons, most of which have nothing to do with what they read. So a length is to blame only if it is
//! great, greater than any that was read without harm, alone with the engine, and for the second time.

use crate::{model::Reason, worker::EngineStats};

/// A prompt that ended workers while they read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatalPrompt {
    /// Its length in tokens.
    pub tokens: u64,
    /// How the last of them ended.
    pub reason: Reason,
    /// How many have. It may have been by chance as long as that is one.
    pub deaths: u32,
}

/// What happened to the prompts of one model, as long as its spec makes the same engine on the same device.
#[derive(Clone, Debug, Default)]
pub(super) struct PromptHistory {
    device: String,
    longest_read: u64,
    /// Workers that ended with prompts of different lengths, one each: the shortest one.
    suspect: Option<FatalPrompt>,
    fatal: Option<FatalPrompt>,
}

/// Shorter prompts end no worker by their length.
const LEAST: u64 = 256;

impl PromptHistory {
    /// A worker whose engine was last seen so ended, or is about to be killed, for this reason. Says whether a prompt may be why.
    pub(super) fn worker_ended(&mut self, engine: &EngineStats, reason: Reason) -> bool {
        self.longest_read = self.longest_read.max(engine.longest_read_tokens);
        let longest_read = self.longest_read;
        self.suspect = self.suspect.filter(|one| one.tokens > longest_read);
        let by_itself = matches!(
            reason,
            Reason::WorkerDied | Reason::WorkerHung | Reason::InsufficientMemory
        );
        let tokens = engine.reading_tokens;
        let may_be_why =
            by_itself && engine.in_flight == 1 && tokens >= LEAST && tokens > longest_read;
        if !may_be_why {
            return false;
        }
        match self.suspect {
            Some(suspect) if suspect.tokens <= tokens => {
                let deaths = self.fatal.map_or(1, |fatal| fatal.deaths) + 1;
                self.fatal = Some(FatalPrompt {
                    tokens,
                    reason,
                    deaths,
                });
            }
            _ => {
                self.suspect = Some(FatalPrompt {
                    tokens,
                    reason,
                    deaths: 1,
                });
            }
        }
        true
    }

    /// The shortest prompt that is not to be read again.
    pub(super) fn fatal(&self) -> Option<FatalPrompt> {
        self.fatal
    }

    /// The same, else what ended a worker once.
    pub(super) fn known(&self) -> Option<FatalPrompt> {
        self.fatal.or(self.suspect)
    }

    /// Somebody wants it to be tried again.
    pub(super) fn forgive(&mut self) {
        self.suspect = None;
        self.fatal = None;
    }

    /// The next worker is on `device`. Says whether nothing is known of it there.
    pub(super) fn move_to(&mut self, device: &str) -> bool {
        let is_new = self.device != device;
        if is_new {
            *self = Self {
                device: device.to_owned(),
                ..Self::default()
            };
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(reading: u64) -> EngineStats {
        EngineStats {
            in_flight: 1,
            reading_tokens: reading,
            ..EngineStats::default()
        }
    }

    fn after(history: &mut PromptHistory, reading: u64) -> Option<u64> {
        history.worker_ended(&alone(reading), Reason::WorkerDied);
        history.fatal().map(|fatal| fatal.tokens)
    }

    #[test]
    fn only_a_great_length_that_was_never_read_alone_is_to_blame() {
        let mut history = PromptHistory::default();
        let ends = |prompts, reason| (prompts, reason);
        let harmless = [
            ends(alone(LEAST - 1), Reason::WorkerDied),
            ends(
                EngineStats {
                    longest_read_tokens: 4000,
                    ..alone(3000)
                },
                Reason::WorkerDied,
            ),
            ends(alone(4000), Reason::WorkerDied),
            ends(alone(9000), Reason::ModelUnloaded),
            ends(
                EngineStats {
                    in_flight: 2,
                    ..alone(9000)
                },
                Reason::WorkerDied,
            ),
        ];
        for (prompts, reason) in harmless.into_iter().chain(harmless) {
            assert!(!history.worker_ended(&prompts, reason), "{prompts:?}");
        }
        assert_eq!(history.known(), None);
    }

    #[test]
    fn the_second_end_at_a_length_no_shorter_is_to_blame() {
        let mut history = PromptHistory::default();
        assert_eq!(after(&mut history, 9000), None);
        assert_eq!(history.known().map(|known| known.deaths), Some(1));
        assert_eq!(after(&mut history, 8000), None);
        assert_eq!(after(&mut history, 9000), Some(9000));
        assert_eq!(after(&mut history, 8000), Some(8000));
        let fatal = history.known().expect("a fatal prompt");
        assert_eq!((fatal.reason, fatal.deaths), (Reason::WorkerDied, 3));
        history.forgive();
        assert_eq!(history.known(), None);
    }

    #[test]
    fn what_was_read_after_all_is_not_suspected_any_more() {
        let mut history = PromptHistory::default();
        after(&mut history, 300);
        let read = EngineStats {
            longest_read_tokens: 300,
            ..alone(9000)
        };
        history.worker_ended(&read, Reason::WorkerDied);
        assert_eq!(history.fatal(), None);
        assert_eq!(history.known().map(|known| known.tokens), Some(9000));
    }

    #[test]
    fn another_device_knows_nothing() {
        let mut history = PromptHistory::default();
        assert!(history.move_to("cpu"));
        after(&mut history, 9000);
        assert!(!history.move_to("cpu"));
        assert_eq!(after(&mut history, 9000), Some(9000));
        assert!(history.move_to("cuda:GPU-1"));
        assert_eq!(history.known(), None);
    }
}
