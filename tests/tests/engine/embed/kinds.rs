//! What models of another kind cannot do.

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelKind};
use hangar_tests::{
    fixtures::{Embedding, Fixtures},
    refusals::refusal,
    server::{TestServer, spec},
};
use tonic::Code;

#[hangar_tests::test]
async fn an_embedding_model_gives_no_text() -> Result<()> {
    for kind in Embedding::ALL {
        let server = TestServer::embedding(kind).await?;
        for call in [
            server.client.generate("m").prompt("x"),
            server.client.generate("m").message("user", "x"),
        ] {
            let refusal = refusal(
                call.text().await,
                Code::FailedPrecondition,
                ErrorReason::UnsupportedByModel,
            );
            assert!(refusal.message().contains("Embed"), "{refusal}");
        }
        let metrics = server.info().await?.metrics.unwrap_or_default();
        assert_eq!(metrics.requests_total, 0);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_text_model_gives_no_vectors() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    client
        .load("m")
        .spec(spec(&fixtures.llama()?))
        .wait()
        .await?;
    let answer = client.embed("m").input("x").send().await;
    let refusal = refusal(
        answer,
        Code::FailedPrecondition,
        ErrorReason::UnsupportedByModel,
    );
    assert!(refusal.message().contains("Generate"), "{refusal}");
    client
        .generate("m")
        .prompt("x")
        .max_tokens(1)
        .text()
        .await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_kind_that_is_known_is_not_loaded_to_be_refused() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut text = spec(&fixtures.llama()?);
    text.load_on_demand = true;
    client.create_model("unknown", text.clone()).send().await?;
    text.set_kind(ModelKind::Text);
    client.create_model("known", text).send().await?;
    for (id, loaded) in [("known", false), ("unknown", true)] {
        let answer = client.embed(id).input("x").send().await;
        refusal(
            answer,
            Code::FailedPrecondition,
            ErrorReason::UnsupportedByModel,
        );
        let info = client.info().model(id).send().await?;
        let status = info.models[0].status.clone().unwrap_or_default();
        assert_eq!(status.worker_pid != 0, loaded, "{id}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_request_loads_an_embedding_model_on_demand() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut spec = spec(&fixtures.embedding(Embedding::Gemma)?);
    spec.load_on_demand = true;
    client.create_model("m", spec).send().await?;
    let response = client.embed("m").input("x").send().await?;
    assert_eq!(response.embeddings[0].values.len(), 32);
    Ok(())
}

#[hangar_tests::test]
async fn tokens_of_an_embedding_model_go_both_ways() -> Result<()> {
    for kind in Embedding::ALL {
        let server = TestServer::embedding(kind).await?;
        let tokens = server.client.tokenize("m", "h\u{e9}").send().await?;
        assert_eq!(tokens.len(), 3);
        let text = server.client.detokenize("m", tokens).send().await?;
        assert_eq!(text, "h\u{e9}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_kind_that_the_files_are_not_of_fails_the_load() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let gguf = fixtures.llama_gguf(hangar_tests::fixtures::Quantization::F32)?;
    for (path, kind, word) in [
        (fixtures.llama()?, ModelKind::Embedding, "modules.json"),
        (gguf, ModelKind::Embedding, "GGUF"),
        (
            fixtures.embedding(Embedding::Qwen3)?,
            ModelKind::Text,
            "without a head",
        ),
        (
            fixtures.embedding(Embedding::Gemma)?,
            ModelKind::Text,
            "Gemma3TextModel",
        ),
    ] {
        let mut spec = spec(&path);
        spec.set_kind(kind);
        let load = client.load(path.file_name().unwrap_or_default().to_string_lossy());
        let refusal = refusal(
            load.spec(spec).wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        assert!(refusal.message().contains(word), "{refusal}");
    }
    let mut spec = spec(&fixtures.embedding(Embedding::Qwen3)?);
    spec.set_kind(ModelKind::Embedding);
    client.load("right").spec(spec).wait().await?;
    Ok(())
}
