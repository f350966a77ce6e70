//! Finds the texts that end an answer, and holds back what may be the beginning of one.
//!
//! The answer ends where the first stop text is complete; of several that are complete at the same
//! character, the longest counts. What comes out does not depend on how the text is cut into pieces,
//! never contains a stop text, and is everything that came before it.

/// Looks for stop texts in a stream of text.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// Text that was not given out: the beginning of some stop text.
    pending: String,
}

impl StopMatcher {
    /// Looks for these texts. Empty ones are ignored.
    pub(crate) fn new(stops: impl IntoIterator<Item = String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(),
            pending: String::new(),
        }
    }

    /// Takes further text and adds what can be given out to `out`. Gives the stop text if one follows that;
    /// nothing is to be taken any more then.
    pub(crate) fn push(&mut self, text: &str, out: &mut String) -> Option<String> {
        if self.stops.is_empty() {
            out.push_str(text);
            return None;
        }
        self.pending.push_str(text);
        let (given, stop) = match self.first_stop() {
            Some((start, stop)) => (start, Some(stop.to_owned())),
            None => (self.pending.len() - self.longest_beginning(), None),
        };
        out.push_str(&self.pending[..given]);
        self.pending.drain(..given);
        stop
    }

    /// Ends the text: what was held back is no stop text.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.pending);
        self.pending.clear();
    }

    /// What is held back, which is nothing any more then: behind a stop text, that and what came after it.
    pub(crate) fn take_pending(&mut self) -> String {
        std::mem::take(&mut self.pending)
    }

    /// Start and text of the stop text that is complete first.
    fn first_stop(&self) -> Option<(usize, &str)> {
        self.stops
            .iter()
            .filter_map(|stop| Some((self.pending.find(stop.as_str())?, stop.as_str())))
            .min_by_key(|(start, stop)| (start + stop.len(), *start))
    }

    /// Length in bytes of the longest end of the pending text with which a stop text begins.
    fn longest_beginning(&self) -> usize {
        let longest = self.stops.iter().map(|stop| stop.len() - 1).max();
        let longest = longest.unwrap_or(0).min(self.pending.len());
        (1..=longest)
            .rev()
            .filter(|length| self.pending.is_char_boundary(self.pending.len() - length))
            .find(|length| {
                let end = &self.pending[self.pending.len() - length..];
                self.stops.iter().any(|stop| stop.starts_with(end))
            })
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives the text that came out and the stop text, if one was found.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|stop| (*stop).to_owned()));
        let mut out = String::new();
        for piece in pieces {
            if let Some(stop) = matcher.push(piece, &mut out) {
                return (out, Some(stop));
            }
        }
        matcher.finish(&mut out);
        (out, None)
    }

    /// The same by definition: character by character, looking at everything.
    fn by_definition(stops: &[String], text: &str) -> (String, Option<String>) {
        for (at, c) in text.char_indices() {
            let so_far = &text[..at + c.len_utf8()];
            let found = stops.iter().filter(|stop| so_far.ends_with(stop.as_str()));
            if let Some(stop) = found.max_by_key(|stop| stop.len()) {
                return (
                    so_far[..so_far.len() - stop.len()].into(),
                    Some(stop.clone()),
                );
            }
        }
        (text.into(), None)
    }

    #[bounded::test]
    fn a_stop_text_across_pieces_does_not_leak() {
        assert_eq!(
            run(&["STOP"], &["one S", "T", "OP two"]),
            ("one ".into(), Some("STOP".into()))
        );
    }

    #[bounded::test]
    fn text_held_back_for_a_stop_text_that_does_not_come_is_given_out() {
        assert_eq!(
            run(&["STOP"], &["one ST", "ART"]),
            ("one START".into(), None)
        );
        assert_eq!(run(&["STOP"], &["one ST"]), ("one ST".into(), None));
    }

    #[bounded::test]
    fn of_two_stop_texts_that_end_together_the_longer_ends_the_answer() {
        assert_eq!(
            run(&["bc", "abc"], &["xa", "bc"]),
            ("x".into(), Some("abc".into()))
        );
    }

    #[bounded::test]
    fn the_stop_text_that_is_complete_first_ends_the_answer() {
        assert_eq!(
            run(&["abcd", "bc"], &["xabcd"]),
            ("xa".into(), Some("bc".into()))
        );
    }

    #[bounded::test]
    fn a_stop_text_that_overlaps_itself_is_found() {
        assert_eq!(
            run(&["aab"], &["a", "a", "a", "b"]),
            ("a".into(), Some("aab".into()))
        );
    }

    #[bounded::test]
    fn without_stop_texts_everything_passes_at_once() {
        let mut matcher = StopMatcher::new([String::new()]);
        let mut out = String::new();
        assert_eq!(matcher.push("text", &mut out), None);
        assert_eq!(out, "text");
    }

    proptest! {
        #[bounded::test]
        fn stop_texts_are_found_however_the_answer_is_cut_into_pieces(
            stops in prop::collection::vec("[abü]{1,4}", 0..4),
            pieces in prop::collection::vec("[abü]{0,4}", 0..12),
        ) {
            let names: Vec<&str> = stops.iter().map(String::as_str).collect();
            let parts: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let out = run(&names, &parts);
            prop_assert_eq!(&out, &by_definition(&stops, &pieces.concat()));
            for stop in &stops {
                prop_assert!(!out.0.contains(stop.as_str()));
            }
        }
    }
}
