//! What decoders are followed as the tokenizers crate decodes all at once.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A tokenizer with these tokens, of which those behind are added ones, and special where that is said.
fn tokenizer(tokens: &[&str], added: &[(&str, bool)], decoder: &Value) -> Tokenizer {
    let vocabulary: serde_json::Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), id.into()))
        .collect();
    let added: Vec<Value> = added
        .iter()
        .enumerate()
        .map(|(id, (content, special))| {
            json!({
                "id": tokens.len() + id, "content": content, "special": special, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    let written = json!({
        "version": "1.0", "added_tokens": added, "decoder": decoder,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    Tokenizer::from_bytes(written.to_string()).expect("a tokenizer")
}

fn replace(pattern: &str, content: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": pattern}, "content": content})
}

fn sequence(decoders: &[Value]) -> Value {
    json!({"type": "Sequence", "decoders": decoders})
}

fn strip(start: usize) -> Value {
    json!({"type": "Strip", "content": " ", "start": start, "stop": 0})
}

fn kind(name: &str) -> Value {
    json!({"type": name})
}

fn byte_level() -> Tokenizer {
    let decoder = json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
    });
    // A whole character, halves of some, bytes of none, a space, and an end of a line.
    let tokens = [
        "a", "Ġ", "Ġb", "Ã", "©", "Ã©", "ð", "ŁĺĢ", "ÿ", "Ģ", "Ċ", "Ĳ", "Ń",
    ];
    let added = [
        ("<s>", true),
        ("<note>", false),
        ("é", false),
        ("  ", false),
        ("語", false),
        ("<|end|>", true),
    ];
    tokenizer(&tokens, &added, &decoder)
}

const PIECES: [&str; 16] = [
    "▁", "▁a", "b", "▁▁c", "<0xC3>", "<0xA9>", "<0xFF>", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>",
    "<0x20>", "<0x0G>", "<0x+a>", "é", "",
];
const ADDED: [(&str, bool); 4] = [
    ("<s>", true),
    ("<note>", false),
    (" x", false),
    ("<0x41>", true),
];

/// Tokenizers of each kind that there is.
fn tokenizers() -> Vec<(&'static str, Tokenizer)> {
    let pieces = |decoder: &Value| tokenizer(&PIECES, &ADDED, decoder);
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let space = replace("▁", " ");
    let (run, fuse) = (kind("ByteFallback"), kind("Fuse"));
    let all = |decoders: &[&Value]| {
        let decoders: Vec<Value> = decoders.iter().map(|it| (*it).clone()).collect();
        pieces(&sequence(&decoders))
    };
    vec![
        ("bytes", byte_level()),
        ("a prefix", all(&[&space, &run, &fuse, &strip(1)])),
        ("two prefixes", all(&[&space, &run, &fuse, &strip(2)])),
        ("no prefix", all(&[&space, &run, &fuse])),
        ("each stripped", all(&[&space, &run, &strip(1)])),
        ("spaces last", all(&[&run, &fuse, &space, &strip(1)])),
        ("words", all(&[&replace("▁a", "x"), &space, &run, &fuse])),
        ("metaspace", all(&[&run, &metaspace("first")])),
        (
            "metaspace before",
            all(&[&metaspace("always"), &run, &fuse]),
        ),
        ("no metaspace", all(&[&metaspace("never"), &run])),
    ]
}

/// The pieces of text that the tokens give one by one, the special ones left out.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let decoding = Decoding::of(tokenizer).expect("a decoder");
    let mut text = decoding.begin(false);
    let mut pieces = Vec::new();
    for id in ids {
        let mut piece = String::new();
        let token = tokenizer.id_to_token(*id);
        let special = |token: &String| tokenizer.get_added_vocabulary().is_special_token(token);
        if let Some(token) = token.filter(|token| !special(token)) {
            text.push(token, &mut piece);
        }
        pieces.push(piece);
    }
    let mut piece = String::new();
    text.finish(&mut piece);
    pieces.push(piece);
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[bounded::test]
    fn one_by_one_gives_what_all_at_once_gives(ids in prop::collection::vec(0..22_u32, 0..12)) {
        for (name, tokenizer) in tokenizers() {
            let expected = tokenizer.decode(&ids, true).expect("a text");
            prop_assert_eq!(pieces(&tokenizer, &ids).concat(), expected, "{}", name);
        }
    }
}

#[bounded::test]
fn what_is_certain_is_given_at_once() {
    let tokenizers = tokenizers();
    let bytes = &tokenizers[0].1;
    assert_eq!(pieces(bytes, &[0, 3, 4, 2]), ["a", "", "é", " b", ""]);
    let prefix = &tokenizers[1].1;
    assert_eq!(pieces(prefix, &[1, 4, 5, 2]), ["a", "", "", "éb", ""]);
    assert_eq!(
        pieces(prefix, &[4, 5, 6]),
        ["", "", "", "\u{fffd}\u{fffd}\u{fffd}"]
    );
}

#[bounded::test]
fn a_text_that_goes_on_keeps_its_first_space() {
    for (name, tokenizer) in &tokenizers()[1..] {
        let decoding = Decoding::of(tokenizer).expect("a decoder");
        let mut text = String::new();
        decoding.begin(true).push("▁b".into(), &mut text);
        let stripped = *name == "each stripped";
        assert_eq!(text, if stripped { "b" } else { " b" }, "{name}");
    }
}

#[bounded::test]
fn what_needs_the_whole_text_is_named() {
    for decoder in [
        json!({"type": "BPEDecoder", "suffix": "</w>"}),
        sequence(&[kind("Fuse"), replace("ab", "c")]),
        json!({"type": "Strip", "content": " ", "start": 0, "stop": 1}),
    ] {
        let tokenizer = tokenizer(&["a"], &[], &decoder);
        let error = Decoding::of(&tokenizer).expect_err("the whole text");
        let named = ["BPEDecoder", "Replace", "Strip"];
        assert!(named.iter().any(|name| error.contains(name)), "{error}");
    }
}
