//! What generation_config.json and tokenizer_config.json say of answers: it is followed, or refused by its name.

use anyhow::{Context, Result};
use hangar_client::GenerateEvent;
use hangar_tests::fixtures::SuccessorModel;
use serde_json::{Value, json};

use super::{HELLO, OddServer};

/// The tokens of an answer by a model with this generation_config.json.
async fn tokens(server: &OddServer, generation: Value) -> Result<Vec<u32>> {
    let mut successor = SuccessorModel::new(&HELLO)?;
    successor.generation_config = Some(generation);
    server.load(&successor).await?;
    let request = server.client.generate("m").message("user", "Hello");
    let mut stream = request.temperature(0.0).max_tokens(10).stream().await?;
    let mut tokens = Vec::new();
    while let Some(event) = stream.next().await {
        if let GenerateEvent::Chunk(chunk) = event? {
            tokens.extend(chunk.token_ids);
        }
    }
    Ok(tokens)
}

#[hangar_tests::test]
async fn tokens_of_every_answer_are_as_the_generation_config_says() -> Result<()> {
    let server = OddServer::new().await?;
    let successor = SuccessorModel::new(&HELLO)?;
    let id = |text: &str| {
        let id = successor.tokenizer["model"]["vocab"][text].as_u64();
        u32::try_from(id.context("a token")?).context("an id")
    };
    let (h, i, end) = (id("h")?, id("i")?, id("!")?);
    // Where the token that would follow is not chosen, all others are as likely, and the first of them is.
    const OTHER: u32 = 0;
    for (generation, expected) in [
        (json!({}), vec![h, i, end]),
        (json!({"suppress_tokens": [i]}), [h, OTHER].repeat(5)),
        (
            json!({"begin_suppress_tokens": [h]}),
            vec![OTHER, h, i, end],
        ),
        (
            json!({"min_new_tokens": 5}),
            vec![h, i, end, OTHER, h, i, end],
        ),
        (json!({"min_length": 1}), vec![h, i, end]),
        (
            json!({"suppress_tokens": null, "num_beams": 1, "typical_p": 1.0}),
            vec![h, i, end],
        ),
    ] {
        assert_eq!(
            tokens(&server, generation.clone()).await?,
            expected,
            "{generation}"
        );
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_config_says_it_where_there_is_no_generation_config() -> Result<()> {
    let server = OddServer::new().await?;
    let mut clock = SuccessorModel::new(&HELLO)?;
    let id = clock.tokenizer["model"]["vocab"]["i"].clone();
    clock.config["suppress_tokens"] = json!([id]);
    server.load(&clock).await?;
    assert!(!server.says().await?.contains('i'));
    // As in the reference, which reads one of the two.
    clock.generation_config = Some(json!({}));
    server.assert_says(&clock, "hi!").await?;
    let path = server.fixtures.directory("unfollowed-config")?;
    let mut clock = SuccessorModel::new(&HELLO)?;
    clock.config["bad_words_ids"] = json!([[5, 6]]);
    clock.write(&path)?;
    let parts = ["config.json", "bad_words_ids"];
    server.assert_refused(&path, &parts).await;
    Ok(())
}

#[hangar_tests::test]
async fn what_is_not_followed_is_refused_by_name() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.directory("unfollowed")?;
    for (field, value) in [
        ("num_beams", json!(4)),
        ("no_repeat_ngram_size", json!(3)),
        ("bad_words_ids", json!([[5, 6]])),
        ("forced_bos_token_id", json!(5)),
        ("stop_strings", json!(["x"])),
    ] {
        let mut successor = SuccessorModel::new(&HELLO)?;
        successor.generation_config = Some(json!({field: value}));
        successor.write(&path)?;
        let parts = ["generation_config.json", field];
        server.assert_refused(&path, &parts).await;
    }
    std::fs::remove_file(path.join("generation_config.json"))?;
    let mut successor = SuccessorModel::new(&HELLO)?;
    successor.tokenizer_config["split_special_tokens"] = json!(true);
    successor.write(&path)?;
    let parts = ["tokenizer_config.json", "split_special_tokens"];
    server.assert_refused(&path, &parts).await;
    Ok(())
}
