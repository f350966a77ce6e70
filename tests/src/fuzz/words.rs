//! Random texts.

use fastrand::Rng;

/// Lengths in characters, from what is usual to what is absurd.
const LENGTHS: [usize; 12] = [
    0, 1, 2, 7, 30, 30, 130, 700, 4_000, 5_000, 100_000, 1_000_000,
];

/// What texts are made of.
const ALPHABETS: [&str; 8] = [
    "abcdefghijklmnopqrstuvwxyz ",
    "0123456789.-+eE",
    "äöüßéñ漢字かなאבג",
    "😀🇩🇪👩‍👩‍👧\u{202e}\u{200b}\u{feff}\u{fffd}",
    "\0\u{1}\t\r\n\u{1b}\u{7f}\u{85}\u{2028}",
    "{}[]\":,\\/ntruefalse",
    "{%}-_'|~ifor",
    "../%?#&=<>`\"'",
];

/// Texts that mean something to somebody.
const KNOWN: [&str; 14] = [
    "{{ raise_exception('x' * 100000) }}",
    "<|im_start|>",
    "<tool_call>",
    "{\"type\": \"object\"}",
    "[a-z]+",
    "(a|b)*{1000}",
    "start: /a+/",
    "../../etc/passwd",
    "/dev/zero",
    "http://127.0.0.1:1/",
    "data:image/png;base64,AAAA",
    "user",
    "model/demo",
    "hangar.v1.ModelService",
];

/// A text of at most `budget` bytes, which it uses up.
pub(super) fn text(rng: &mut Rng, budget: &mut usize) -> String {
    // A list has millions of texts, of which most come here.
    if *budget == 0 {
        return String::new();
    }
    let text = if rng.u8(..4) == 0 {
        KNOWN[rng.usize(..KNOWN.len())].to_owned()
    } else {
        let alphabet: Vec<char> = ALPHABETS[rng.usize(..ALPHABETS.len())].chars().collect();
        let length = LENGTHS[rng.usize(..LENGTHS.len())];
        // Some are of one character, which tokenizers and patterns take differently.
        let one = rng.u8(..3) == 0;
        let first = alphabet[rng.usize(..alphabet.len())];
        let next = |_| {
            if one {
                first
            } else {
                alphabet[rng.usize(..alphabet.len())]
            }
        };
        (0..length.min(*budget)).map(next).collect()
    };
    let text = text[..text.floor_char_boundary(*budget)].to_owned();
    *budget -= text.len();
    text
}

/// Bytes, at most `budget`, which they use up.
pub(super) fn bytes(rng: &mut Rng, budget: &mut usize) -> Vec<u8> {
    let length = LENGTHS[rng.usize(..LENGTHS.len())].min(*budget);
    *budget -= length;
    (0..length).map(|_| rng.u8(..)).collect()
}
