//! Up to where the engine computes what a model says.

/// Lengths up to which the engine computes what the model says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Longest sequence.
    pub(crate) max_sequence: Option<u32>,
    /// Longest prompt that is right when it is computed at once; further tokens have to be given one by one.
    pub(crate) max_prefill: Option<u32>,
    /// Beyond this length positions are rotated by other factors, which the engine chooses once for a prompt: a sequence
    /// whose prompt is no longer must not grow beyond it.
    pub(crate) rope_switch: Option<u32>,
}

impl Limits {
    /// Those of a model that computes its sequences at once, and none otherwise.
    pub(in crate::inspect) fn as_one_prefill(self) -> Self {
        Self {
            max_sequence: self.max_sequence.into_iter().chain(self.max_prefill).min(),
            max_prefill: None,
            ..self
        }
    }

    /// Whether a prompt of so many tokens, of which the engine gets so many at first and the others one by one, would
    /// begin as a sequence below the switch and end as one beyond it.
    pub(crate) fn is_torn(&self, prompt: usize, first: usize) -> bool {
        let switch = self.rope_switch.map(|switch| switch as usize);
        switch.is_some_and(|switch| first <= switch && switch < prompt && first < prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_prompt_that_is_handed_over_in_pieces_stays_on_its_side_of_the_switch() {
        let limits = Limits {
            rope_switch: Some(64),
            ..Limits::default()
        };
        for (prompt, first, torn) in [
            (64, 1, false),
            (65, 1, true),
            (65, 65, false),
            (90, 64, true),
            (90, 65, false),
            (65, usize::MAX, false),
        ] {
            assert_eq!(limits.is_torn(prompt, first), torn, "{prompt} {first}");
        }
        assert!(!Limits::default().is_torn(65, 1));
    }
}
