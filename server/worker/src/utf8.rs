//! Turns the bytes of tokens into whole characters: a character is never split, and all that comes out is
//! what a lossy conversion of all bytes at once would give.

/// Joins bytes to characters.
#[derive(Debug, Default)]
pub(crate) struct Utf8Joiner {
    /// Beginning of a character; at most three bytes.
    rest: Vec<u8>,
}

impl Utf8Joiner {
    /// Takes further bytes and adds the characters that are whole now to `text`. Bytes that cannot belong to
    /// any character become U+FFFD.
    pub(crate) fn push(&mut self, bytes: &[u8], text: &mut String) {
        if self.rest.is_empty()
            && let Ok(whole) = std::str::from_utf8(bytes)
        {
            text.push_str(whole);
            return;
        }
        self.rest.extend_from_slice(bytes);
        let mut taken = 0;
        loop {
            match std::str::from_utf8(&self.rest[taken..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    taken = self.rest.len();
                    break;
                }
                Err(e) => {
                    let valid = &self.rest[taken..taken + e.valid_up_to()];
                    text.push_str(&String::from_utf8_lossy(valid));
                    taken += e.valid_up_to();
                    let Some(invalid) = e.error_len() else {
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    taken += invalid;
                }
            }
        }
        self.rest.drain(..taken);
    }

    /// Ends the text: the beginning of a character that never became whole is U+FFFD.
    pub(crate) fn finish(&mut self, text: &mut String) {
        text.push_str(&String::from_utf8_lossy(&self.rest));
        self.rest.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn push(joiner: &mut Utf8Joiner, bytes: &[u8]) -> String {
        let mut text = String::new();
        joiner.push(bytes, &mut text);
        text
    }

    fn finish(joiner: &mut Utf8Joiner) -> String {
        let mut text = String::new();
        joiner.finish(&mut text);
        text
    }

    #[bounded::test]
    fn a_character_is_held_back_until_it_is_whole() {
        let mut joiner = Utf8Joiner::default();
        let bytes = "ü€😀".as_bytes();
        let texts: Vec<String> = bytes
            .iter()
            .map(|byte| push(&mut joiner, &[*byte]))
            .collect();
        assert_eq!(texts, ["", "ü", "", "", "€", "", "", "", "😀"]);
        assert_eq!(finish(&mut joiner), "");
    }

    #[bounded::test]
    fn a_character_that_stays_incomplete_is_replaced_at_the_end() {
        let mut joiner = Utf8Joiner::default();
        assert_eq!(push(&mut joiner, &[b'a', 0xe2, 0x82]), "a");
        assert_eq!(finish(&mut joiner), "\u{fffd}");
    }

    proptest! {
        #[bounded::test]
        fn pieces_join_to_the_lossy_conversion_of_all_bytes(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..20),
        ) {
            let mut joiner = Utf8Joiner::default();
            let mut text: String = chunks.iter().map(|chunk| push(&mut joiner, chunk)).collect();
            text.push_str(&finish(&mut joiner));
            let all = chunks.concat();
            prop_assert_eq!(text, String::from_utf8_lossy(&all).into_owned());
        }
    }
}
