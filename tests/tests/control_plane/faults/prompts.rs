//! Workers that end while they read a prompt: whether it is to blame shows in GetInfo.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason, FatalPrompt,
    ModelState::{Backoff, Ready},
    RestartMode::OnFailure,
};
use hangar_tests::{
    background::Background,
    installation::Installation,
    refusals::refusal,
    scripted::{Gate, GenerateScript, Script},
    server::{TestServer, Transitions, restarting},
};
use tonic::Code;

/// Workers that end with so many requests that they have not read.
fn dying(requests: u32) -> Script {
    Script::generating(GenerateScript {
        gate: Some("token".into()),
        die_with_requests: Some(requests),
        ..GenerateScript::default()
    })
}

/// A READY model whose workers end with so many requests that they have not read.
async fn server(requests: u32) -> Result<(TestServer, Transitions)> {
    let server = TestServer::scripted()
        .script(&dying(requests))
        .start()
        .await?;
    let mut transitions = server.follow("m").await?;
    let spec = restarting(&server.directory, OnFailure, 5);
    server.client.load("m").spec(spec).wait().await?;
    transitions.until(Ready).await?;
    Ok((server, transitions))
}

/// Has the worker end with prompts of these lengths, and gives what is known of them once there is another one.
async fn end_with(
    server: &TestServer,
    transitions: &mut Transitions,
    lengths: &[usize],
) -> Result<Option<FatalPrompt>> {
    let ask = |length: &usize| {
        let request = server.client.generate("m").prompt("x".repeat(*length));
        Background::start(request.text())
    };
    let answers: Vec<_> = lengths.iter().map(ask).collect();
    for answer in answers {
        refusal(
            answer.end().await?,
            Code::Unavailable,
            ErrorReason::WorkerDied,
        );
    }
    transitions.until(Backoff).await?;
    transitions.until(Ready).await?;
    Ok(server.info().await?.fatal_prompt)
}

fn known(tokens: u64, deaths: u32) -> Option<FatalPrompt> {
    Some(FatalPrompt {
        tokens,
        reason: "WORKER_DIED".to_owned(),
        deaths,
    })
}

#[hangar_tests::test]
async fn a_long_prompt_is_to_blame_for_the_second_end() -> Result<()> {
    let (server, mut transitions) = server(1).await?;
    let _gate = server.gate("token")?;
    let first = end_with(&server, &mut transitions, &[300]).await?;
    assert_eq!(first, known(300, 1));
    let second = end_with(&server, &mut transitions, &[400]).await?;
    assert_eq!(second, known(400, 2));
    let log = server.log()?;
    let words = "a worker ended while it read a prompt";
    assert_eq!(log.matches(words).count(), 2, "{log}");

    server.client.load("m").force_reload().wait().await?;
    assert_eq!(server.info().await?.fatal_prompt, None);
    Ok(())
}

#[hangar_tests::test]
async fn no_prompt_is_to_blame_that_was_not_alone() -> Result<()> {
    let (server, mut transitions) = server(2).await?;
    let _gate = server.gate("token")?;
    for _ in 0..2 {
        let known = end_with(&server, &mut transitions, &[300, 5]).await?;
        assert_eq!(known, None);
    }
    let status = server.info().await?.status.context("a status")?;
    assert_eq!(status.restarts, 2);
    Ok(())
}

#[hangar_tests::test]
async fn what_ended_workers_is_known_after_a_restart_of_the_server() -> Result<()> {
    let installation = Installation::scripted()?;
    let path = installation.model("m", &dying(1))?;
    let _gate = Gate::new(&path, "token")?;
    let server = installation.start().await?;
    let spec = restarting(&path, OnFailure, 5);
    server.client.load("m").spec(spec).wait().await?;
    let mut transitions = server.follow("m").await?;
    let first = end_with(&server, &mut transitions, &[300]).await?;
    assert_eq!(first, known(300, 1));
    server.terminate().await?;

    let server = installation.start().await?;
    assert_eq!(server.info().await?.fatal_prompt, known(300, 1));
    let mut transitions = server.follow("m").await?;
    transitions.until(Ready).await?;
    let second = end_with(&server, &mut transitions, &[400]).await?;
    assert_eq!(second, known(400, 2));
    server.terminate().await?;

    let server = installation.start().await?;
    server.follow("m").await?.until(Ready).await?;
    assert_eq!(server.info().await?.fatal_prompt, known(400, 2));
    server.terminate().await?;

    // Another model, as far as anybody knows.
    std::fs::write(path.join("config.json"), "{}")?;
    let server = installation.start().await?;
    server.follow("m").await?.until(Ready).await?;
    assert_eq!(server.info().await?.fatal_prompt, None);
    Ok(())
}
