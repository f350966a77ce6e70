//! JSON as it is found in models' directories: with a byte order mark, and with the numbers that Python writes
//! and JSON does not have.

use std::borrow::Cow;

/// What editors put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The bytes without a byte order mark.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// The text as strict JSON: without a byte order mark, and with `null` for `NaN`, for `Infinity` and for numbers
/// beyond what a float holds. Where a field with such a value counts, it is missed.
pub(super) fn strict(bytes: &[u8]) -> Cow<'_, [u8]> {
    let bytes = without_mark(bytes);
    let mut out: Option<Vec<u8>> = None;
    let (mut at, mut copied) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        if *byte == b'"' {
            at += string_length(&bytes[at..]);
            continue;
        }
        let word = bytes[at..].iter().take_while(|byte| is_word(**byte));
        let length = word.count();
        if length == 0 {
            at += 1;
            continue;
        }
        if !is_strict(&bytes[at..at + length]) {
            let out = out.get_or_insert_default();
            out.extend_from_slice(&bytes[copied..at]);
            out.extend_from_slice(b"null");
            copied = at + length;
        }
        at += length;
    }
    match out {
        None => Cow::Borrowed(bytes),
        Some(mut out) => {
            out.extend_from_slice(&bytes[copied..]);
            Cow::Owned(out)
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn is_strict(word: &[u8]) -> bool {
    if matches!(word, b"NaN" | b"Infinity" | b"-Infinity") {
        return false;
    }
    let number = std::str::from_utf8(word)
        .ok()
        .filter(|word| !word.ends_with(|last: char| last.is_ascii_alphabetic()))
        .and_then(|word| word.parse::<f64>().ok());
    number.is_none_or(f64::is_finite)
}

/// Length of the string literal with which the text begins, or of all that is left.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(text: &str) -> Option<Value> {
        serde_json::from_slice(&strict(text.as_bytes())).ok()
    }

    #[bounded::test]
    fn what_python_writes_is_read() {
        let value = read("\u{feff}{\"a\": [0.0, Infinity, -Infinity, NaN, 1e999], \"b\": 1e300}");
        let expected = serde_json::json!({"a": [0.0, null, null, null, null], "b": 1e300});
        assert_eq!(value, Some(expected));
    }

    #[bounded::test]
    fn strings_that_look_like_numbers_are_not_changed() {
        let text = r#"{"NaN": "Infinity \" NaN", "b": true}"#;
        assert_eq!(read(text), serde_json::from_str(text).ok());
        assert!(matches!(strict(text.as_bytes()), Cow::Borrowed(_)));
        assert!(read("{\"a\": Infinite}").is_none());
    }

    proptest! {
        #[bounded::test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = strict(&bytes);
        }
    }
}
