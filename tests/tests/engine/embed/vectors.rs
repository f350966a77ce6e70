//! What the vectors are.

use anyhow::Result;
use futures::future::try_join_all;
use hangar_tests::{
    fixtures::Embedding,
    server::{TestServer, spec},
};

use super::{Vectors, change_json, copy, distance, length, many};

const TEXTS: [&str; 5] = [
    "a",
    "A hangar is a building for aircraft.",
    "a hangar is a building for aircraft.",
    "\u{1f6e9} \u{e9}",
    " ",
];

/// What length one may be off by: what the numbers of a vector are rounded by.
const ROUNDING: f64 = 1e-6;

#[hangar_tests::test]
async fn a_vector_has_the_models_size_and_length_one() -> Result<()> {
    for kind in Embedding::ALL {
        let server = TestServer::embedding(kind).await?;
        for vector in server.vectors(TEXTS).await? {
            assert_eq!(vector.len(), kind.size(), "{kind:?}");
            let length = length(&vector);
            assert!((length - 1.0).abs() < ROUNDING, "{kind:?}: {length}");
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_text_gives_the_same_vector_alone_and_in_a_batch() -> Result<()> {
    for kind in Embedding::ALL {
        let server = TestServer::embedding(kind).await?;
        let together = server.vectors(TEXTS).await?;
        for (text, vector) in TEXTS.iter().zip(&together) {
            assert_eq!(server.vector(text).await?, *vector, "{kind:?}: {text:?}");
        }
        let twice = server.vectors([TEXTS[1], TEXTS[1]]).await?;
        assert_eq!(twice, [together[1].clone(), together[1].clone()]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn vectors_come_in_the_order_of_their_texts_and_differ() -> Result<()> {
    for kind in Embedding::ALL {
        let server = TestServer::embedding(kind).await?;
        let forwards = server.vectors(TEXTS).await?;
        let mut backwards = server.vectors(TEXTS.into_iter().rev()).await?;
        backwards.reverse();
        assert_eq!(forwards, backwards, "{kind:?}");
        for (n, one) in forwards.iter().enumerate() {
            for other in &forwards[..n] {
                assert!(distance(one, other) > 0.01, "{kind:?}: {n}");
            }
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_vector_is_the_same_whatever_else_is_asked() -> Result<()> {
    let server = TestServer::embedding(Embedding::Gemma).await?;
    let alone = server.vectors(TEXTS).await?;
    let clients = (0..8).map(async |n: usize| {
        let client = server.connect().await?;
        for round in 0..5 {
            let at = (n + round) % TEXTS.len();
            let texts = [TEXTS[at], "something else", TEXTS[n % TEXTS.len()]];
            let response = client.embed("m").inputs(texts).send().await?;
            assert_eq!(response.embeddings[0].values, alone[at]);
            assert_eq!(response.embeddings[2].values, alone[n % TEXTS.len()]);
        }
        anyhow::Ok(())
    });
    try_join_all(clients).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_single_token_gives_what_it_gives_repeated() -> Result<()> {
    // Each token sees those before it only, and all of them are the same.
    let server = TestServer::embedding(Embedding::Qwen3).await?;
    let vectors = server.vectors(["a", "aa", "aaaaaaa"]).await?;
    for repeated in &vectors[1..] {
        let distance = distance(&vectors[0], repeated);
        assert!(distance < 1e-5, "{distance}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn tokens_are_counted_as_the_tokenizer_does() -> Result<()> {
    for kind in Embedding::ALL {
        let server = TestServer::embedding(kind).await?;
        let response = server.client.embed("m").inputs(TEXTS).send().await?;
        let mut sum = 0;
        for (text, embedding) in TEXTS.iter().zip(&response.embeddings) {
            let tokens = server.client.tokenize("m", *text).add_special_tokens();
            let tokens = tokens.send().await?.len();
            assert_eq!(tokens, text.len() + kind.around(), "{kind:?}: {text:?}");
            assert_eq!(embedding.token_count as usize, tokens, "{kind:?}: {text:?}");
            sum += embedding.token_count;
        }
        assert_eq!(response.prompt_tokens, sum);
        let metrics = server.info().await?.metrics.unwrap_or_default();
        assert_eq!(metrics.prompt_tokens, u64::from(sum));
        assert_eq!(metrics.completion_tokens, 0);
    }
    Ok(())
}

#[hangar_tests::test]
async fn as_many_texts_as_may_be_get_their_vectors() -> Result<()> {
    let server = TestServer::embedding(Embedding::Qwen3).await?;
    let texts = many();
    let vectors = server.vectors(texts.clone()).await?;
    assert_eq!(vectors.len(), 1024);
    for n in [0, 511, 1023] {
        assert_eq!(server.vector(&texts[n]).await?, vectors[n]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn vectors_are_normalized_only_where_the_modules_say() -> Result<()> {
    for kind in Embedding::ALL {
        let server = TestServer::embedding(kind).await?;
        let unit = server.vectors(TEXTS).await?;
        let path = copy(&server.fixtures, &server.fixtures.embedding(kind)?)?;
        change_json(&path.join("modules.json"), |modules| {
            modules.as_array_mut().map(Vec::pop);
        })?;
        let load = server.client.load("plain").spec(spec(&path));
        load.wait().await?;
        let call = server.client.embed("plain").inputs(TEXTS);
        for (unit, plain) in unit.iter().zip(call.send().await?.embeddings) {
            let length = length(&plain.values);
            assert!((length - 1.0).abs() > 0.01, "{kind:?}: {length}");
            #[allow(clippy::cast_possible_truncation)]
            let scaled = plain.values.iter().map(|x| x / length as f32);
            let scaled: Vec<f32> = scaled.collect();
            assert!(distance(unit, &scaled) < 1e-5, "{kind:?}");
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_bidirectional_window_is_half_as_wide_on_each_side() -> Result<()> {
    let server = TestServer::embedding(Embedding::Gemma).await?;
    let path = server.fixtures.embedding(Embedding::Gemma)?;
    let path = copy(&server.fixtures, &path)?;
    change_json(&path.join("config.json"), |config| {
        config["sliding_window"] = 100_000.into();
    })?;
    server.client.load("wide").spec(spec(&path)).wait().await?;
    // The window of 128 tokens reaches to 64 on each side; two are around the text.
    for (bytes, same) in [(63, true), (64, false), (120, false)] {
        let text = "x y".repeat(40)[..bytes].to_owned();
        let narrow = server.vector(&text).await?;
        let wide = server.client.embed("wide").input(text).send().await?;
        let distance = distance(&narrow, &wide.embeddings[0].values);
        assert_eq!(distance < 1e-6, same, "{bytes}: {distance}");
    }
    Ok(())
}
