//! Tokenizers of headers as converters write them.

use super::*;

/// A header with these tokens, of this kind.
fn header(model: &str, tokens: &[&str]) -> Header {
    let mut header = Header::default();
    let mut put = |name: &str, value: Value| {
        header
            .values
            .insert(format!("tokenizer.ggml.{name}"), value);
    };
    put("model", Value::Text(model.into()));
    put(
        "tokens",
        Value::Texts(tokens.iter().map(|it| (*it).to_owned()).collect()),
    );
    put("merges", Value::Texts(Vec::new()));
    header
}

/// Tokens of three texts, of which "ab" and "bc" can be put together.
fn pieces_with(scores: Option<&[f64]>) -> Result<Json, String> {
    let mut header = header(
        "llama",
        &["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc"],
    );
    if let Some(scores) = scores {
        header
            .values
            .insert(SCORES.into(), Value::Scores(scores.into()));
    }
    let settings = text_settings(&header, None).map_err(|failure| failure.message)?;
    serde_json::from_slice(&settings.tokenizer).map_err(|e| e.to_string())
}

#[bounded::test]
fn the_best_score_is_put_together_first() {
    let tokenizer = pieces_with(Some(&[0.0, 0.0, 0.0, -1.0, -1.0, -1.0, -3.0, -2.0]));
    let merges = tokenizer.expect("a tokenizer")["model"]["merges"].take();
    assert_eq!(merges, json!([["b", "c"], ["a", "b"]]));
}

#[bounded::test]
fn tokens_with_the_same_score_are_refused_by_name() {
    let alike = [0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -4.0];
    for scores in [Some(&alike[..]), None] {
        let error = pieces_with(scores).expect_err("alike");
        for part in [SCORES, "\"ab\"", "\"bc\"", "llama.cpp"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[bounded::test]
fn a_text_ends_as_llama_cpp_has_it_where_the_file_does_not_say() {
    let texts: Vec<String> = (0..13).map(|id| format!("t{id}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (model, tokens, end) in [
        ("llama", 13, Some(2)),
        ("gpt2", 13, Some(11)),
        ("gpt2", 11, None),
    ] {
        let mut header = header(model, &texts[..tokens]);
        let pre = Value::Text("gpt-2".into());
        header.values.insert("tokenizer.ggml.pre".into(), pre);
        let settings = text_settings(&header, None).expect("settings");
        assert_eq!(
            settings.eos_token_ids,
            Vec::from_iter(end),
            "{model} {tokens}"
        );
    }
}
