//! What is read of a tokenizer's files beside tokenizer.json, against what transformers makes of them: the tokens of a
//! text, and the texts of tokens. `tests/reference/token_files.py` has computed it.

use std::collections::BTreeMap;

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
    let mut successor = SuccessorModel::new(&["h", "i", "!", "<|im_end|>"])?;
    successor.tokenizer["model"]["vocab"][WORD.0] = WORD.1.into();
    for (field, value) in &case.tokenizer {
        successor.tokenizer[field] = value.clone();
    }
    successor.write(&path)?;
    for (name, fields) in &case.files {
        let file = path.join(name);
        let mut whole: Map<String, Value> = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => Map::new(),
        };
        whole.extend(fields.clone());
        std::fs::write(file, serde_json::to_vec(&whole)?)?;
    }
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
    Ok(())
}
