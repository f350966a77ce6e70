//! Texts of answers: what comes in pieces is, byte for byte, what all its tokens give at once.

use anyhow::Result;
use hangar_client::GenerateEvent;
use hangar_tests::fixtures::{GgufSuccessor, SuccessorModel};
use serde_json::json;

use super::OddServer;

/// Generates an answer, and makes sure that its pieces make the text that all its tokens are decoded to.
async fn answer(server: &OddServer) -> Result<String> {
    let request = server.client.generate("m").message("user", "Hello");
    let mut stream = request.temperature(0.0).max_tokens(20).stream().await?;
    let (mut text, mut tokens) = (String::new(), Vec::new());
    while let Some(event) = stream.next().await {
        if let GenerateEvent::Chunk(chunk) = event? {
            text.push_str(&chunk.text);
            tokens.extend(chunk.token_ids);
        }
    }
    let whole = server.client.detokenize("m", tokens).skip_special_tokens();
    assert_eq!(text, whole.send().await?);
    Ok(text)
}

/// A vocabulary of pieces and bytes, as SentencePiece has it, that goes through these tokens.
fn pieces(chain: &[&str]) -> GgufSuccessor {
    let special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"];
    let kinds = [2, 3, 3, 3, 3];
    let special = special.map(str::to_owned).into_iter().zip(kinds);
    let bytes = (0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), 6));
    let plain = ["▁", "A", "▁B", "é"].map(|text| (text.to_owned(), 1));
    GgufSuccessor {
        tokens: special.chain(bytes).chain(plain).collect(),
        chain: chain.iter().map(|text| (*text).to_owned()).collect(),
        first: chain[0].to_owned(),
        model: "llama",
        ..GgufSuccessor::bytes(&[])
    }
}

#[hangar_tests::test]
async fn a_wrong_byte_spoils_the_bytes_around_it() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.root().join("pieces.gguf");
    for (chain, expected) in [
        (
            &[
                "▁B",
                "<0xC3>",
                "<0xA9>",
                "<0xFF>",
                "A",
                "<0xE2>",
                "<|im_end|>",
            ][..],
            "B\u{fffd}\u{fffd}\u{fffd}A\u{fffd}",
        ),
        (
            &[
                "<0xF0>",
                "<0x9F>",
                "<0x98>",
                "<0x80>",
                "▁B",
                "é",
                "<|im_end|>",
            ],
            "😀 Bé",
        ),
        (
            &["▁", "A", "<0x20>", "<0xE2>", "<0x82>", "<|im_end|>"],
            "A\u{fffd}\u{fffd}\u{fffd}",
        ),
    ] {
        pieces(chain).write(&path)?;
        server.load_path(&path).await?;
        assert_eq!(answer(&server).await?, expected, "{chain:?}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn added_tokens_are_decoded_as_others_are() -> Result<()> {
    let server = OddServer::new().await?;
    // This character is also how the byte 0xE9 is written.
    let mut successor = SuccessorModel::new(&["a", "é", "b", "Ã", "©", "ÿ", "c", "<|im_end|>"])?;
    let id = successor.tokenizer["model"]["vocab"]["é"].clone();
    let added = successor.tokenizer["added_tokens"].as_array_mut();
    added.into_iter().for_each(|added| {
        added.push(json!({
            "id": id, "content": "é", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false,
        }));
    });
    server.load(&successor).await?;
    assert_eq!(answer(&server).await?, "a\u{fffd}bé\u{fffd}c");
    Ok(())
}

#[hangar_tests::test]
async fn decoders_that_need_the_whole_text_are_refused_by_name() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.directory("whole")?;
    let mut successor = SuccessorModel::new(&["a", "<|im_end|>"])?;
    let bytes = successor.tokenizer["decoder"].clone();
    let strip = json!({"type": "Strip", "content": " ", "start": 0, "stop": 1});
    successor.tokenizer["decoder"] = json!({"type": "Sequence", "decoders": [bytes, strip]});
    successor.write(&path)?;
    let parts = ["tokenizer.json", "decoder", "Strip"];
    server.assert_refused(&path, &parts).await;
    Ok(())
}
