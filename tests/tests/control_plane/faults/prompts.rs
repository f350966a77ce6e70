//! Workers that end while they read a prompt: whether it is to blame shows in GetInfo.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason, FatalPrompt,
    ModelState::{Backoff, Ready},
    RestartMode::OnFailure,
};
use hangar_tests::{
    background::Background,
    refusals::refusal,
    scripted::{GenerateScript, Script},
    server::{TestServer, Transitions, restarting},
};
use tonic::Code;

/// A READY model whose workers end with so many requests that they have not read.
async fn server(requests: u32) -> Result<(TestServer, Transitions)> {
    let script = Script::generating(GenerateScript {
        gate: Some("token".into()),
        die_with_requests: Some(requests),
        ..GenerateScript::default()
    });
    let server = TestServer::scripted().script(&script).start().await?;
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

#[hangar_tests::test]
async fn a_long_prompt_is_to_blame_for_the_second_end() -> Result<()> {
    let (server, mut transitions) = server(1).await?;
    let _gate = server.gate("token")?;
    let known = |tokens, deaths| {
        Some(FatalPrompt {
            tokens,
            reason: "WORKER_DIED".to_owned(),
            deaths,
        })
    };
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
