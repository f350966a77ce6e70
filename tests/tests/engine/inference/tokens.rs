//! Tokenize and Detokenize, and characters that are made of several tokens.

use std::{collections::HashMap, path::PathBuf};

use anyhow::Result;
use hangar_client::v1::FinishReason;
use hangar_tests::{fixtures::Fixtures, refusals::wrong_fields, server::TestServer};
use serde_json::json;

use super::{changed, greedy_request, responses, text_of, tokens_of};

const VOCABULARY: u32 = 261;
const EOS: u32 = 4;

#[hangar_tests::test]
async fn every_text_comes_back_from_its_tokens() -> Result<()> {
    let server = TestServer::tiny().await?;
    let long = "\u{65e5}\u{672c}".repeat(50_000);
    for text in [
        "",
        "Hello, world",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{1f3fd}",
        "\u{65e5}\u{672c}\u{8a9e}",
        "e\u{301}\u{5d0}\u{fe0f}",
        "a\0b\u{1}\t\r\n",
        "\u{feff}\u{fffd}\u{10ffff}",
        "  two  spaces  ",
        long.as_str(),
    ] {
        let tokens = server.client.tokenize("m", text).send().await?;
        assert_eq!(tokens.len(), text.len(), "one token for each byte");
        let back = server.client.detokenize("m", tokens).send().await?;
        assert_eq!(back, text);
    }
    Ok(())
}

#[hangar_tests::test]
async fn tokens_outside_of_the_vocabulary_are_refused() -> Result<()> {
    let server = TestServer::tiny().await?;
    for token in [VOCABULARY, VOCABULARY + 1, u32::MAX] {
        let text = server.client.detokenize("m", [70, token]).send().await;
        assert_eq!(wrong_fields(text), ["token_ids"], "{token}");
    }
    server
        .client
        .detokenize("m", [VOCABULARY - 1])
        .send()
        .await?;
    Ok(())
}

#[hangar_tests::test]
async fn special_tokens_can_be_left_out_of_a_text() -> Result<()> {
    let server = TestServer::tiny().await?;
    let tokens = server
        .client
        .tokenize("m", "<|im_end|>a<|im_end|>")
        .send()
        .await?;
    assert_eq!((tokens.len(), tokens[0], tokens[2]), (3, EOS, EOS));
    let with = server.client.detokenize("m", tokens.clone()).send().await?;
    assert_eq!(with, "<|im_end|>a<|im_end|>");
    let without = server.client.detokenize("m", tokens).skip_special_tokens();
    assert_eq!(without.send().await?, "a");
    Ok(())
}

#[hangar_tests::test]
async fn special_tokens_are_added_to_tokens_if_wanted_and_always_to_prompts() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = changed(&fixtures, "tokenizer.json", |tokenizer| {
        let begin = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [begin, text],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        });
    })?;
    let server = TestServer::real()
        .fixtures(&fixtures)
        .serving(&path, |_| ())
        .await?;
    let plain = server.client.tokenize("m", "ab").send().await?;
    let added = server.client.tokenize("m", "ab").add_special_tokens();
    assert_eq!(added.send().await?, [&[1], &plain[..]].concat());
    let answer = server.greedy("ab").max_tokens(1).text().await?;
    assert_eq!(answer.done.usage.unwrap_or_default().prompt_tokens, 3);
    Ok(())
}

#[hangar_tests::test]
async fn tokenize_works_while_an_answer_runs() -> Result<()> {
    let server = TestServer::long(|spec| {
        spec.max_concurrency = 1;
        spec.max_queue = Some(0);
    })
    .await?;
    let running = server.greedy("Hello").max_tokens(16_000).stream().await?;
    server.until_occupancy(1, 0).await?;
    let tokens = server.client.tokenize("m", "abc").send().await?;
    assert_eq!(server.client.detokenize("m", tokens).send().await?, "abc");
    server.until_occupancy(1, 0).await?;
    drop(running);
    Ok(())
}

/// A model whose letters are made bytes of longer characters, so that its answer is full of characters of
/// several tokens, of ones that stay incomplete and of bytes that are none; and the byte of each token.
fn with_long_characters(fixtures: &Fixtures) -> Result<(PathBuf, HashMap<u64, u8>)> {
    let leads = (0xC3_u8..=0xD4).chain(0xE3..=0xE6).chain(0xF0..=0xF3);
    let others = (0xA1_u8..=0xAC).chain(0xAE..=0xBB);
    let capitals = ('A'..='Z').zip(leads);
    let mut byte_of = HashMap::new();
    let path = changed(fixtures, "tokenizer.json", |tokenizer| {
        let vocabulary = &mut tokenizer["model"]["vocab"];
        for (letter, byte) in capitals.chain(('a'..='z').zip(others)) {
            // In a byte-level vocabulary each of these bytes is written as the character of its number.
            let (letter, symbol) = (letter.to_string(), char::from(byte).to_string());
            let ids = (vocabulary[&letter].clone(), vocabulary[&symbol].clone());
            vocabulary[&symbol] = ids.0;
            vocabulary[&letter] = ids.1;
        }
        let mut name = |symbol: char, byte: u8| {
            let id = vocabulary[symbol.to_string()].as_u64();
            byte_of.extend(id.map(|id| (id, byte)));
        };
        for byte in (b'!'..=b'~').chain(0xA1..=0xAC).chain(0xAE..=0xFF) {
            name(char::from(byte), byte);
        }
        name('\u{120}', b' ');
    })?;
    Ok((path, byte_of))
}

#[hangar_tests::test]
async fn chunks_hold_whole_characters_whatever_the_tokens_are() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let (path, byte_of) = with_long_characters(&fixtures)?;
    let options = TestServer::real().fixtures(&fixtures);
    let server = options.serving(&path, |_| ()).await?;
    let mut wide = 0;
    for prompt in ["Hello", "What?", "one, two"] {
        for max_tokens in [230, 231, 232] {
            let mut request = greedy_request(prompt, max_tokens);
            request.sampling = None;
            let (chunks, done) = responses(&server.client, request).await?;
            assert_eq!(done.finish_reason(), FinishReason::Length);
            let tokens = tokens_of(&chunks);
            assert_eq!(tokens.len(), max_tokens as usize);
            let bytes = tokens.iter().map(|token| byte_of[&u64::from(*token)]);
            let bytes: Vec<u8> = bytes.collect();
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(text_of(&chunks), text);
            assert_eq!(server.client.detokenize("m", tokens).send().await?, text);
            wide += text
                .chars()
                .filter(|c| !c.is_ascii() && *c != '\u{fffd}')
                .count();
        }
    }
    assert!(
        wide > 20,
        "only {wide} characters were made of several tokens"
    );
    Ok(())
}
