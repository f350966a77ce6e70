//! Texts as long as the context, and longer.

use anyhow::Result;
use hangar_client::v1::ErrorReason;
use hangar_tests::{fixtures::Embedding, refusals::refusal, server::TestServer};
use tonic::Code;

use super::Vectors;

const CONTEXT: usize = Embedding::SHAPE.context;

fn text(tokens: usize, kind: Embedding) -> String {
    "abcdefg "
        .chars()
        .cycle()
        .take(tokens - kind.around())
        .collect()
}

#[hangar_tests::test]
async fn a_text_may_be_as_long_as_the_context_and_no_longer() -> Result<()> {
    for kind in Embedding::ALL {
        let server = TestServer::embedding(kind).await?;
        let worker = server.worker().await?;
        let before = server.vector("Hello").await?;
        let fits = [text(CONTEXT - 1, kind), text(CONTEXT, kind)];
        let response = server.client.embed("m").inputs(fits).send().await?;
        let counts: Vec<_> = response.embeddings.iter().map(|e| e.token_count).collect();
        assert_eq!(counts, [255, 256], "{kind:?}");
        for tokens in [CONTEXT + 1, 1_000_000] {
            let call = server.client.embed("m").input("Hello");
            let answer = call.input(text(tokens, kind)).send().await;
            let refusal = refusal(answer, Code::InvalidArgument, ErrorReason::ContextExceeded);
            let fields = &refusal.details().fields;
            assert_eq!(fields[0].subject, "inputs[1]", "{kind:?}: {refusal}");
            assert!(refusal.message().contains("256"), "{refusal}");
        }
        assert_eq!(server.vector("Hello").await?, before, "{kind:?}");
        assert_eq!(server.worker().await?, worker, "{kind:?}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_specs_context_is_the_limit() -> Result<()> {
    let server =
        TestServer::embedding_with(Embedding::Gemma, |spec| spec.context_length = 16).await?;
    server.vector(&text(16, Embedding::Gemma)).await?;
    let long = text(17, Embedding::Gemma);
    let answer = server.client.embed("m").input(long).send().await;
    let refusal = refusal(answer, Code::InvalidArgument, ErrorReason::ContextExceeded);
    assert!(refusal.message().contains("17 tokens"), "{refusal}");
    Ok(())
}

#[hangar_tests::test]
async fn the_length_of_the_tokenizers_configuration_is_a_limit_however_large_the_file() -> Result<()>
{
    let server = TestServer::real().start().await?;
    let path = server.fixtures.embedding(Embedding::Gemma)?;
    let file = path.join("tokenizer_config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    config["model_max_length"] = 32.into();
    config["padding"] = "x".repeat(2 << 20).into();
    std::fs::write(&file, serde_json::to_vec(&config)?)?;
    let load = server.client.load("m").path(path.display().to_string());
    load.wait().await?;
    let ask = |tokens| {
        let input = text(tokens, Embedding::Gemma);
        server.client.embed("m").input(input).send()
    };
    ask(32).await?;
    let refusal = refusal(
        ask(33).await,
        Code::InvalidArgument,
        ErrorReason::ContextExceeded,
    );
    assert!(refusal.message().contains("model_max_length"), "{refusal}");
    Ok(())
}
