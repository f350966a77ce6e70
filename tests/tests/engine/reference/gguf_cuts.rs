//! How texts are cut by the name in `tokenizer.ggml.pre`, against llama.cpp. `tests/reference/gguf_cuts.py` has asked it.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use anyhow::{Context, Result};
use hangar_tests::{
    fixtures::{GgufSuccessor, GgufValue},
    server::{TestServer, spec},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Cuts {
    texts: Vec<String>,
    /// Tokens behind those of bytes to which no merges lead.
    whole: Vec<String>,
    /// Tokens that are put together: by their places in the vocabulary, in which each result follows those before it.
    merges: Vec<(usize, usize)>,
    /// Which of the results below each name gives.
    names: BTreeMap<String, usize>,
    /// Tokens of each text.
    tokens: Vec<Vec<Vec<u32>>>,
}

#[hangar_tests::test]
async fn gguf_texts_are_cut_as_in_llama_cpp() -> Result<()> {
    let server = TestServer::real().start().await?;
    let cuts: Cuts = serde_json::from_str(include_str!("../../../reference/gguf_cuts.json"))?;
    assert!(cuts.names.len() > 50);
    let model = cuts.vocabulary();
    let path = server.fixtures.root().join("cuts.gguf");
    let mut wrong = Vec::new();
    for (name, result) in &cuts.names {
        let pre = GgufValue::String(name.clone());
        model.clone().key("pre", pre).write(&path)?;
        let expected = cuts.tokens.get(*result).context("no such result")?;
        match check(&server, &path, &cuts.texts, expected).await {
            Ok(differ) => wrong.extend(differ.iter().map(|text| format!("{name}: {text:?}"))),
            Err(error) => wrong.push(format!("{name}: {error:#}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The texts of which other tokens come.
async fn check(
    server: &TestServer,
    path: &Path,
    texts: &[String],
    expected: &[Vec<u32>],
) -> Result<Vec<String>> {
    let client = &server.client;
    client.load("cuts").spec(spec(path)).wait().await?;
    let mut differ = Vec::new();
    for (text, expected) in texts.iter().zip(expected) {
        let tokens = client.tokenize("cuts", text).add_special_tokens();
        if tokens.send().await? != *expected {
            differ.push(text.clone());
        }
    }
    client.unload("cuts").send().await?;
    Ok(differ)
}

impl Cuts {
    fn vocabulary(&self) -> GgufSuccessor {
        let mut model = GgufSuccessor::bytes(&["h", "i", "!", "<|im_end|>"]);
        // That of its own to which a merge leads.
        model.tokens.pop();
        let whole = self.whole.iter().map(|text| (text.clone(), 1));
        model.tokens.extend(whole);
        let mut tokens: Vec<String> = model.tokens.iter().map(|(text, _)| text.clone()).collect();
        let mut known: HashSet<String> = tokens.iter().cloned().collect();
        model.merges.clear();
        for (left, right) in &self.merges {
            let (left, right) = (&tokens[*left], &tokens[*right]);
            model.merges.push(format!("{left} {right}"));
            let merged = format!("{left}{right}");
            if known.insert(merged.clone()) {
                model.tokens.push((merged.clone(), 1));
                tokens.push(merged);
            }
        }
        model
    }
}
