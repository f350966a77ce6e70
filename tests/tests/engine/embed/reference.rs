//! What tiny embedding models as sentence-transformers writes them give, against what it says.

use anyhow::{Context, Result};
use hangar_client::{
    Error,
    v1::{DataType, ErrorReason, ModelSpec},
};
use hangar_tests::{
    fixtures::ReferenceEmbedding,
    refusals::refusal,
    server::{TestServer, spec},
};
use tonic::Code;

use super::distance;

/// By how much a number of a vector may differ.
const EXACT: f32 = 1e-4;

/// The one that is refused, and what the refusal names.
const REFUSED: (&str, &str) = ("qwen3-prompt", "default_prompt_name");

fn exact_spec(server: &TestServer, model: &ReferenceEmbedding) -> Result<ModelSpec> {
    let mut spec = spec(&server.fixtures.reference_embedding(model)?);
    spec.set_dtype(DataType::F32);
    Ok(spec)
}

#[hangar_tests::test]
async fn vectors_are_those_of_the_reference_or_the_model_is_refused_by_name() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut wrong = Vec::new();
    for model in ReferenceEmbedding::all()? {
        let load = server
            .client
            .load(&model.name)
            .spec(exact_spec(&server, &model)?);
        match (load.wait().await, model.name == REFUSED.0) {
            (Err(Error::Refused(refusal)), true) if refusal.message().contains(REFUSED.1) => {
                continue;
            }
            (Ok(_), false) => {}
            (Ok(_), true) => anyhow::bail!("{} is served", model.name),
            (Err(error), _) => anyhow::bail!("{}: {error}", model.name),
        }
        for answer in &model.answers {
            let embed = server.client.embed(&model.name).input(&answer.text);
            let response = embed.send().await?;
            let given = &response.embeddings.first().context("a vector")?.values;
            let distance = distance(given, &answer.vector);
            if distance > EXACT {
                wrong.push(format!(
                    "{} at {}: {distance}",
                    model.name,
                    answer.text.len()
                ));
            }
        }
        server.client.unload(&model.name).send().await?;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[hangar_tests::test]
async fn texts_that_the_reference_would_cut_are_refused_by_the_field() -> Result<()> {
    let server = TestServer::real().start().await?;
    let model = ReferenceEmbedding::named("qwen3-bounded")?;
    let spec = exact_spec(&server, &model)?;
    server
        .client
        .load("qwen3-bounded")
        .spec(spec)
        .wait()
        .await?;
    let ask = |length: usize| {
        server
            .client
            .embed("qwen3-bounded")
            .input("a".repeat(length))
    };
    ask(32).send().await?;
    let refusal = refusal(
        ask(33).send().await,
        Code::InvalidArgument,
        ErrorReason::ContextExceeded,
    );
    assert!(refusal.message().contains("max_seq_length"), "{refusal}");
    Ok(())
}
