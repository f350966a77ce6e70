//! What a change of the spec does to the model that is loaded.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, GenerationDefaults, ModelSpec, Sampling};
use hangar_tests::{refusals::refusal, server::TestServer};
use tonic::Code;

/// Changes the spec, and says whether all of it takes a reload to hold.
async fn changed(server: &TestServer, mut change: impl FnMut(&mut ModelSpec)) -> Result<bool> {
    let edit = server.client.edit_model("m");
    let changed = edit.send(|model| change(model.spec.get_or_insert_default()));
    Ok(changed.await?.context("a change")?.reload_required)
}

#[hangar_tests::test]
async fn changed_defaults_apply_from_the_next_request_on_the_same_worker() -> Result<()> {
    let server = TestServer::tiny().await?;
    let worker = server.worker().await?;
    let greedy = server.greedy("Hello").max_tokens(40).text().await?.text;
    let sampled = server.client.generate("m").prompt("Hello").max_tokens(40);
    assert_ne!(
        sampled.text().await?.text,
        greedy,
        "sampled at temperature 1"
    );

    let reload = changed(&server, |spec| {
        let temperature = Some(0.0);
        spec.generation_defaults = Some(GenerationDefaults {
            sampling: Some(Sampling {
                temperature,
                ..Sampling::default()
            }),
            max_tokens: 40,
            ..GenerationDefaults::default()
        });
    });
    assert!(!reload.await?);
    let answer = server.client.generate("m").prompt("Hello").text().await?;
    assert_eq!(answer.text, greedy);
    assert!(!server.info().await?.reload_required);
    assert_eq!(server.worker().await?, worker);
    Ok(())
}

#[hangar_tests::test]
async fn changes_of_what_the_engine_is_built_from_apply_after_a_reload() -> Result<()> {
    let server = TestServer::tiny().await?;
    let worker = server.worker().await?;
    assert!(changed(&server, |spec| spec.context_length = 64).await?);
    assert!(server.info().await?.reload_required);
    let prompt = "x".repeat(100);
    server.greedy(&prompt).max_tokens(3).text().await?;
    assert_eq!(server.worker().await?, worker);

    server.client.load("m").force_reload().wait().await?;
    assert!(!server.info().await?.reload_required);
    let answer = server.greedy(&prompt).max_tokens(3).text().await;
    refusal(answer, Code::InvalidArgument, ErrorReason::ContextExceeded);
    Ok(())
}
