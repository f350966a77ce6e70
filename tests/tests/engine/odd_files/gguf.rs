//! GGUF files as converters write them.

use anyhow::Result;
use hangar_tests::fixtures::{GgufSuccessor, GgufValue};

use super::{HELLO, OddServer};

async fn load(server: &OddServer, successor: &GgufSuccessor) -> Result<()> {
    let path = server.fixtures.root().join("odd.gguf");
    successor.write(&path)?;
    server.load_path(&path).await
}

#[hangar_tests::test]
async fn a_prompt_begins_as_the_file_says() -> Result<()> {
    let server = OddServer::new().await?;
    load(&server, &GgufSuccessor::bytes(&HELLO)).await?;
    assert_eq!(server.says().await?, "hi!");
    let tokens = server.tokens("a").await?;
    assert_eq!(tokens.len(), 1);
    let successor = GgufSuccessor::bytes(&HELLO).key("add_bos_token", GgufValue::Bool(true));
    load(&server, &successor).await?;
    let tokens = server.tokens("a").await?;
    assert_eq!((tokens.len(), tokens[0]), (2, 1));
    assert_eq!(server.says().await?, "hi!");
    let successor = successor.key("add_eos_token", GgufValue::Bool(true));
    load(&server, &successor).await?;
    let tokens = server.tokens("a").await?;
    assert_eq!((tokens[0], tokens[2]), (1, 4));
    Ok(())
}

#[hangar_tests::test]
async fn texts_are_cut_as_the_file_says() -> Result<()> {
    let server = OddServer::new().await?;
    for (pre, count) in [("llama-bpe", 1), ("qwen2", 3), ("gpt-2", 1), ("tekken", 3)] {
        let mut successor = GgufSuccessor::bytes(&HELLO).key("pre", GgufValue::String(pre.into()));
        successor
            .tokens
            .extend([("12".into(), 1), ("123".into(), 1)]);
        successor.merges = vec!["1 2".into(), "12 3".into()];
        load(&server, &successor).await?;
        let tokens = server.client.tokenize("m", "123").send().await?;
        assert_eq!(tokens.len(), count, "{pre}");
    }
    let path = server.fixtures.root().join("unknown.gguf");
    let unknown = GgufValue::String("unheard-of".into());
    GgufSuccessor::bytes(&HELLO)
        .key("pre", unknown)
        .write(&path)?;
    server.assert_refused(&path, &["unheard-of"]).await;
    Ok(())
}

#[hangar_tests::test]
async fn scores_of_pieces_may_be_whole_numbers_and_are_all_others() -> Result<()> {
    let server = OddServer::new().await?;
    let mut clock = GgufSuccessor {
        model: "llama",
        ..GgufSuccessor::bytes(&HELLO)
    };
    clock.tokens.extend([("ab".into(), 1), ("bc".into(), 1)]);
    let scores = |last: [i32; 2]| {
        let count = i32::try_from(clock.tokens.len())? - 2;
        let all = (0..count).map(|id| -id).chain(last);
        anyhow::Ok(GgufValue::Array(all.map(GgufValue::I32).collect()))
    };
    for (last, expected) in [([-900, -901], "ab"), ([-901, -900], "bc")] {
        load(&server, &clock.clone().key("scores", scores(last)?)).await?;
        let tokens = server.client.tokenize("m", "abc").send().await?;
        let whole = clock.tokens.iter().position(|(text, _)| text == expected);
        let whole = u32::try_from(whole.unwrap_or_default())?;
        assert!(tokens.contains(&whole), "{expected}: {tokens:?}");
    }
    let path = server.fixtures.root().join("alike.gguf");
    clock
        .clone()
        .key("scores", scores([-900, -900])?)
        .write(&path)?;
    server.assert_refused(&path, &["scores", "ab", "bc"]).await;
    Ok(())
}

#[hangar_tests::test]
async fn what_is_said_of_each_layer_is_refused_by_name() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.root().join("layers.gguf");
    let key = "llama.attention.head_count_kv";
    let mut clock = GgufSuccessor::bytes(&HELLO);
    let each = GgufValue::Array(vec![GgufValue::U32(5)]);
    clock.more.push((key.into(), each));
    clock.write(&path)?;
    server.assert_refused(&path, &[key]).await;
    Ok(())
}

#[hangar_tests::test]
async fn tokens_that_users_defined_are_text() -> Result<()> {
    let server = OddServer::new().await?;
    let mut successor = GgufSuccessor::bytes(&[]);
    successor
        .tokens
        .extend([("<note>".into(), 4), ("</note>".into(), 4)]);
    let chain = ["<note>", "a", "</note>", "b", "<|im_end|>"];
    successor.chain = chain.map(str::to_owned).into();
    successor.first = "<note>".into();
    load(&server, &successor).await?;
    assert_eq!(server.says().await?, "<note>a</note>b");
    let tokens = server.client.tokenize("m", "<note>a").send().await?;
    assert_eq!(tokens.len(), 2);
    Ok(())
}

#[hangar_tests::test]
async fn tokens_that_are_bytes_make_characters() -> Result<()> {
    let server = OddServer::new().await?;
    let special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"];
    let kinds = [2, 3, 3, 3, 3];
    let mut tokens: Vec<(String, i32)> =
        special.map(str::to_owned).into_iter().zip(kinds).collect();
    tokens.extend((0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), 6)));
    tokens.extend(["▁", "A", "B"].map(|text| (text.to_owned(), 1)));
    // The prompt ends by a line feed, which must not be in the midst.
    let chain = ["A", "<0x09>", "B", "<0xC3>", "<0xA9>", "<|im_end|>"];
    let successor = GgufSuccessor {
        tokens,
        chain: chain.map(str::to_owned).into(),
        first: "A".into(),
        model: "llama",
        ..GgufSuccessor::bytes(&[])
    };
    load(&server, &successor).await?;
    assert_eq!(server.says().await?, "A\tBé");
    Ok(())
}

/// One that goes through these tokens, of which some are further ones of the vocabulary with these types.
fn further(chain: &[&str], further: &[(&str, i32)]) -> GgufSuccessor {
    let mut successor = GgufSuccessor::bytes(chain);
    let further = further
        .iter()
        .map(|(text, kind)| ((*text).to_owned(), *kind));
    successor.tokens.extend(further);
    successor
}

#[hangar_tests::test]
async fn an_answer_ends_where_keys_and_texts_say() -> Result<()> {
    let server = OddServer::new().await?;
    let named = || GgufSuccessor::bytes(&["h", "i", "x", "b", "<|im_end|>"]);
    let x = named().tokens.iter().position(|(text, _)| text == "x");
    let x = GgufValue::U32(u32::try_from(x.unwrap_or_default())?);
    for key in [
        "eos_token_id",
        "eot_token_id",
        "eom_token_id",
        "fim_pad_token_id",
    ] {
        load(&server, &named().key(key, x.clone())).await?;
        assert_eq!(server.says().await?, "hi", "{key}");
    }
    // Whatever their types say.
    for (text, kind) in [
        ("<|eot_id|>", 3),
        ("<end_of_turn>", 1),
        ("[EOS]", 1),
        ("<|fim_pad|>", 1),
        ("<|repo_name|>", 4),
        ("<｜end▁of▁sentence｜>", 3),
    ] {
        let chain = ["h", "i", text, "b", "<|im_end|>"];
        load(&server, &further(&chain, &[(text, kind)])).await?;
        assert_eq!(server.says().await?, "hi", "{text}");
    }
    load(
        &server,
        &GgufSuccessor::bytes(&["h", "i", "</s>", "b", "<|im_end|>"]),
    )
    .await?;
    assert_eq!(server.says().await?, "hi");
    Ok(())
}

#[hangar_tests::test]
async fn tokens_that_look_like_control_tokens_are_some() -> Result<()> {
    let server = OddServer::new().await?;
    let chain = ["h", "<PRE>", "i", "<|im_end|>"];
    load(&server, &further(&chain, &[("<PRE>", 1)])).await?;
    assert_eq!(server.says().await?, "hi");
    // Between messages, where others end an answer.
    let harmony = [
        ("<|end|>", 3),
        ("<|return|>", 3),
        ("<|call|>", 3),
        ("<|start|>", 3),
    ];
    let chain = ["h", "<|end|>", "<|start|>", "i", "<|return|>", "b"];
    load(&server, &further(&chain, &harmony)).await?;
    assert_eq!(server.says().await?, "h<|end|><|start|>i");
    Ok(())
}

#[hangar_tests::test]
async fn tokens_that_are_suppressed_are_not_chosen() -> Result<()> {
    let server = OddServer::new().await?;
    let successor = GgufSuccessor::bytes(&HELLO);
    let id = successor.tokens.iter().position(|(text, _)| text == "i");
    let id = i32::try_from(id.unwrap_or_default())?;
    let all = GgufValue::Array(vec![GgufValue::I32(id), GgufValue::I32(-1)]);
    load(&server, &successor.key("suppress_tokens", all)).await?;
    assert_eq!(server.says().await?, "hhhhh");
    Ok(())
}

#[hangar_tests::test]
async fn white_space_behind_tokens_of_phi_3_is_none() -> Result<()> {
    let server = OddServer::new().await?;
    let mut successor = GgufSuccessor::bytes(&HELLO);
    load(&server, &successor).await?;
    let count = async |text: &str| Ok::<_, anyhow::Error>(server.tokens(text).await?.len());
    assert_eq!(count("<|im_end|>  a").await?, 4);
    let name = GgufValue::String("Phi-3 mini".into());
    successor.more.push(("general.name".into(), name));
    load(&server, &successor).await?;
    assert_eq!(count("<|im_end|>  a").await?, 2);
    assert_eq!(count("<s>  a").await?, 4);
    Ok(())
}

#[hangar_tests::test]
async fn scaled_positions_are_refused_by_name() -> Result<()> {
    let server = OddServer::new().await?;
    let path = server.fixtures.root().join("scaled.gguf");
    let mut successor = GgufSuccessor::bytes(&HELLO);
    let key = "llama.rope.scaling.factor";
    successor.more.push((key.into(), GgufValue::F32(8.0)));
    successor.write(&path)?;
    server.assert_refused(&path, &[key]).await;
    Ok(())
}
