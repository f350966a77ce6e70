//! What a worker is not given again: a prompt as long as one that ended workers of the same model.
//!
//! A caller whose request ended with its worker tries again, and the next worker would end in the same way. But workers
//! end for many reasons, most of which have nothing to do with what they read. So a length is to blame only if it is
//! great, greater than any that was read without harm, alone with the engine, and for the second time.
//! That is kept in the catalog: a restart of the server is no reason to try again.

use crate::{
    catalog::LearnedPrompts,
    model::{DeviceName, FatalPrompt, Reason, Spec},
    worker::EngineStats,
};

/// What happened to the prompts of one model, as long as its spec and its files make the same engine on the same device.
#[derive(Clone, Debug)]
pub(super) struct PromptHistory(LearnedPrompts);

/// Shorter prompts end no worker by their length.
const LEAST: u64 = 256;

impl PromptHistory {
    /// Of an engine of `spec`, with what was `kept` of it.
    pub(super) fn restore(kept: Option<&LearnedPrompts>, spec: &Spec) -> Self {
        let kept = kept.filter(|kept| kept.is_of(spec));
        Self(kept.map_or_else(|| LearnedPrompts::of(spec), LearnedPrompts::clone))
    }

    /// What is worth to be kept, if anything is.
    pub(super) fn to_keep(&self) -> Option<LearnedPrompts> {
        let knows = self.0.longest_prefilled > 0 || self.known().is_some();
        knows.then(|| self.0.clone())
    }

    /// A worker whose engine was last seen so ended, or is about to be killed, for this reason. Says whether a prompt may be why.
    pub(super) fn worker_ended(&mut self, engine: &EngineStats, reason: Reason) -> bool {
        let Self(prompts) = self;
        prompts.longest_prefilled = prompts
            .longest_prefilled
            .max(engine.longest_prefilled_tokens);
        let longest_prefilled = prompts.longest_prefilled;
        prompts.suspect = prompts.suspect.filter(|one| one.tokens > longest_prefilled);
        let by_itself = matches!(
            reason,
            Reason::WorkerDied | Reason::WorkerHung | Reason::InsufficientMemory
        );
        let tokens = engine.longest_prefill_tokens;
        let may_be_why =
            by_itself && engine.in_flight == 1 && tokens >= LEAST && tokens > longest_prefilled;
        if !may_be_why {
            return false;
        }
        match prompts.suspect {
            Some(suspect) if suspect.tokens <= tokens => {
                let deaths = prompts.fatal.map_or(1, |fatal| fatal.deaths) + 1;
                prompts.fatal = Some(FatalPrompt {
                    tokens,
                    reason,
                    deaths,
                });
            }
            _ => {
                prompts.suspect = Some(FatalPrompt {
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
        self.0.fatal
    }

    /// The same, else what ended a worker once.
    pub(super) fn known(&self) -> Option<FatalPrompt> {
        self.0.known()
    }

    /// Somebody wants it to be tried again.
    pub(super) fn clear_fatal_prompt(&mut self) {
        self.0.suspect = None;
        self.0.fatal = None;
    }

    /// The next worker is on `device`. Says whether nothing is known of it there.
    pub(super) fn move_to(&mut self, device: &DeviceName) -> bool {
        let is_new = self.0.device.as_ref() != Some(device);
        if is_new {
            self.reset();
            self.0.device = Some(device.clone());
        }
        is_new
    }

    /// The next worker reads files of this digest. Says whether they are others than before, of which nothing is known.
    pub(super) fn read_from(&mut self, files: String) -> bool {
        let are_others = self.0.files != files && !self.0.files.is_empty();
        if are_others {
            self.reset();
        }
        self.0.files = files;
        are_others
    }

    fn reset(&mut self) {
        self.clear_fatal_prompt();
        self.0.longest_prefilled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;

    fn history() -> PromptHistory {
        PromptHistory::restore(None, &spec())
    }

    fn spec() -> Spec {
        Spec::of(Source::Demo)
    }

    fn alone(reading: u64) -> EngineStats {
        EngineStats {
            in_flight: 1,
            longest_prefill_tokens: reading,
            ..EngineStats::default()
        }
    }

    fn after(history: &mut PromptHistory, reading: u64) -> Option<u64> {
        history.worker_ended(&alone(reading), Reason::WorkerDied);
        history.fatal().map(|fatal| fatal.tokens)
    }

    #[bounded::test]
    fn only_a_great_length_that_was_never_read_alone_is_to_blame() {
        let mut history = history();
        let ends = |prompts, reason| (prompts, reason);
        let harmless = [
            ends(alone(LEAST - 1), Reason::WorkerDied),
            ends(
                EngineStats {
                    longest_prefilled_tokens: 4000,
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

    #[bounded::test]
    fn the_second_end_at_a_length_no_shorter_is_to_blame() {
        let mut history = history();
        assert_eq!(after(&mut history, 9000), None);
        assert_eq!(history.known().map(|known| known.deaths), Some(1));
        assert_eq!(after(&mut history, 8000), None);
        assert_eq!(after(&mut history, 9000), Some(9000));
        assert_eq!(after(&mut history, 8000), Some(8000));
        let fatal = history.known().expect("a fatal prompt");
        assert_eq!((fatal.reason, fatal.deaths), (Reason::WorkerDied, 3));
        history.clear_fatal_prompt();
        assert_eq!(history.known(), None);
    }

    #[bounded::test]
    fn what_was_read_after_all_is_not_suspected_any_more() {
        let mut history = history();
        after(&mut history, 300);
        let read = EngineStats {
            longest_prefilled_tokens: 300,
            ..alone(9000)
        };
        history.worker_ended(&read, Reason::WorkerDied);
        assert_eq!(history.fatal(), None);
        assert_eq!(history.known().map(|known| known.tokens), Some(9000));
    }

    #[bounded::test]
    fn a_fatal_prompt_is_forgotten_on_another_device() {
        let mut history = history();
        assert!(history.move_to(&DeviceName::Cpu));
        after(&mut history, 9000);
        assert!(!history.move_to(&DeviceName::Cpu));
        assert_eq!(after(&mut history, 9000), Some(9000));
        assert!(history.move_to(&DeviceName::Ordinal(1)));
        assert_eq!(history.known(), None);
    }

    #[bounded::test]
    fn a_fatal_prompt_is_forgotten_with_other_files() {
        let mut history = history();
        assert!(!history.read_from("1".to_owned()));
        after(&mut history, 9000);
        assert!(!history.read_from("1".to_owned()));
        assert_eq!(after(&mut history, 9000), Some(9000));
        assert!(history.read_from("2".to_owned()));
        assert_eq!(history.known(), None);
        assert_eq!(history.to_keep(), None);
    }

    #[bounded::test]
    fn what_is_kept_counts_for_the_same_engine_only() {
        let mut first = history();
        assert_eq!(first.to_keep(), None);
        first.move_to(&DeviceName::Cpu);
        first.read_from("1".to_owned());
        after(&mut first, 9000);
        let kept = first.to_keep().expect("something to keep");
        let text = serde_json::to_string(&kept).expect("JSON");
        let kept = serde_json::from_str(&text).expect("what was kept");
        let mut restored = PromptHistory::restore(Some(&kept), &spec());
        assert!(!restored.move_to(&DeviceName::Cpu) && !restored.read_from("1".to_owned()));
        assert_eq!(after(&mut restored, 9000), Some(9000));
        let other = Spec {
            context_length: Some(64),
            ..spec()
        };
        let other = PromptHistory::restore(Some(&kept), &other);
        assert_eq!(other.known(), None);
    }
}
