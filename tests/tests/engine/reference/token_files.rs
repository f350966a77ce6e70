//! What is read of a tokenizer's files beside tokenizer.json, against what transformers makes of them: the tokens of a
//! text, and the texts of tokens. `tests/reference/token_files.py` has computed it.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use hangar_client::Client;
use hangar_tests::{
    fixtures::SuccessorModel,
    server::{TestServer, spec},
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The plain token that each tokenizer has beside those of bytes.
const WORD: (&str, u32) = ("the", 261);

#[derive(Deserialize)]
struct Case {
    name: String,
    /// Fields of tokenizer.json that are different.
    tokenizer: Map<String, Value>,
    /// Fields of other files by their names.
    files: BTreeMap<String, Map<String, Value>>,
    text: String,
    tokens: Vec<u32>,
    /// Texts of tokens, the special ones left out.
    shown: BTreeMap<u32, String>,
    /// Fields that tokenizer_config.json has not.
    #[serde(default)]
    without: Vec<String>,
    /// Further plain tokens, and how many there are behind them.
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    filler: u32,
    #[serde(default)]
    merges: Vec<(String, String)>,
    /// Texts of special tokens by their names, as a chat template sees them; empty for none.
    #[serde(default)]
    special: BTreeMap<String, String>,
}

#[hangar_tests::test]
async fn files_beside_the_tokenizer_count_as_in_the_reference() -> Result<()> {
    let server = TestServer::real().start().await?;
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../reference/token_files.json"))?;
    assert!(cases.len() > 20);
    let mut wrong = Vec::new();
    for case in cases {
        if let Err(error) = check(&server, &case).await {
            wrong.push(format!("{}: {error:#}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn check(server: &TestServer, case: &Case) -> Result<()> {
    let path = server.fixtures.directory(&case.name)?;
    case.write(&path)?;
    server
        .client
        .load(&case.name)
        .spec(spec(&path))
        .wait()
        .await?;
    let compared = compare(&server.client, case).await;
    server.client.unload(&case.name).send().await?;
    compared
}

impl Case {
    fn write(&self, path: &Path) -> Result<()> {
        let mut model = SuccessorModel::new(&["h", "i", "!", "<|im_end|>"])?;
        let filler = (0..self.filler).map(|n| format!("Z{n}Z"));
        let words = self.words.iter().cloned().chain(filler);
        let words = [WORD.0.to_owned()].into_iter().chain(words);
        for (id, word) in (WORD.1..).zip(words) {
            model.tokenizer["model"]["vocab"][word] = id.into();
        }
        if !self.merges.is_empty() {
            model.tokenizer["model"]["merges"] = serde_json::to_value(&self.merges)?;
        }
        for (field, value) in &self.tokenizer {
            model.tokenizer[field] = value.clone();
        }
        if !self.special.is_empty() {
            let names = self.special.keys().map(|name| format!("{{{{ {name} }}}}"));
            let template = names.collect::<Vec<_>>().join("\n");
            model.tokenizer_config["chat_template"] = template.into();
        }
        model.write(path)?;
        for (name, fields) in &self.files {
            let file = path.join(name);
            let mut whole: Map<String, Value> = match std::fs::read(&file) {
                Ok(bytes) => serde_json::from_slice(&bytes)?,
                Err(_) => Map::new(),
            };
            whole.extend(fields.clone());
            std::fs::write(file, serde_json::to_vec(&whole)?)?;
        }
        let file = path.join("tokenizer_config.json");
        let mut config: Map<String, Value> = serde_json::from_slice(&std::fs::read(&file)?)?;
        config.retain(|name, _| !self.without.contains(name));
        Ok(std::fs::write(file, serde_json::to_vec(&config)?)?)
    }
}

async fn compare(client: &Client, case: &Case) -> Result<()> {
    let tokens = client.tokenize(&case.name, &case.text).add_special_tokens();
    let tokens = tokens.send().await?;
    anyhow::ensure!(
        tokens == case.tokens,
        "{tokens:?} in place of {:?}",
        case.tokens
    );
    for (token, expected) in &case.shown {
        let text = client
            .detokenize(&case.name, [*token])
            .skip_special_tokens();
        let text = text
            .send()
            .await
            .with_context(|| format!("token {token}"))?;
        anyhow::ensure!(text == *expected, "{token} is {text:?}, not {expected:?}");
    }
    if case.special.is_empty() {
        return Ok(());
    }
    let asked = client.tokenize(&case.name, "").message("user", "a");
    let prompt = asked.send_for_prompt().await?.prompt;
    let seen: Vec<&str> = prompt.split('\n').collect();
    let expected: Vec<&str> = case.special.values().map(String::as_str).collect();
    anyhow::ensure!(
        seen == expected,
        "a template sees {seen:?}, not {expected:?}"
    );
    Ok(())
}
