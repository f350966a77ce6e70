//! Answers that break off: an error ends them, never silence.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason,
    ModelState::{Failed, Ready},
};
use hangar_tests::{
    info,
    refusals::refusal,
    scripted::{Fault, GenerateScript, Script},
    server::TestServer,
};
use tonic::Code;

use super::{chunk, end};

#[hangar_tests::test]
async fn a_worker_that_dies_at_a_token_ends_the_answer() -> Result<()> {
    for fault in [Fault::Kill, Fault::Abort, Fault::Exit(0)] {
        let script = Script {
            generate: GenerateScript {
                die_after: Some(3),
                ..GenerateScript::default()
            },
            die_with: fault,
            ..Script::default()
        };
        let server = TestServer::checked(&script).start().await?;
        server.ready().await?;
        let mut transitions = server.follow("m").await?;
        let mut answer = server.client.generate("m").prompt("x").stream().await?;
        for text in ["t0 ", "t1 ", "t2 "] {
            assert_eq!(chunk(&mut answer).await?, text);
        }
        let died = refusal(
            end(&mut answer).await,
            Code::Unavailable,
            ErrorReason::WorkerDied,
        );
        assert!(died.details().retry_after.is_some());
        assert_eq!(transitions.next().await?.state(), Failed);
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_answer_without_an_end_is_an_error() -> Result<()> {
    let generate = GenerateScript {
        end_after: Some(2),
        ..GenerateScript::default()
    };
    let server = TestServer::checked(&Script::generating(generate))
        .start()
        .await?;
    server.ready().await?;
    let mut answer = server.client.generate("m").prompt("x").stream().await?;
    assert_eq!(chunk(&mut answer).await?, "t0 ");
    assert_eq!(chunk(&mut answer).await?, "t1 ");
    let died = refusal(
        end(&mut answer).await,
        Code::Unavailable,
        ErrorReason::CallBroken,
    );
    assert!(died.details().retry_after.is_some());
    Ok(())
}

#[hangar_tests::test]
async fn a_broken_call_is_no_dead_worker() -> Result<()> {
    let generate = GenerateScript {
        long_error_after: Some(1),
        ..GenerateScript::default()
    };
    let server = TestServer::checked(&Script::generating(generate))
        .start()
        .await?;
    let pid = server.ready().await?.worker_pid;
    for _ in 0..3 {
        let mut answer = server.client.generate("m").prompt("x").stream().await?;
        assert_eq!(chunk(&mut answer).await?, "t0 ");
        let broken = refusal(
            end(&mut answer).await,
            Code::Unavailable,
            ErrorReason::CallBroken,
        );
        assert!(broken.details().retry_after.is_some());
        // By then the end of the worker would have been reported, were it dead.
        let status = info::model(&server.client, "m")
            .await?
            .status
            .context("a status")?;
        assert_eq!((status.state(), status.worker_pid), (Ready, pid));
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_answer_that_fails_in_the_worker_is_an_error() -> Result<()> {
    let generate = GenerateScript {
        error_after: Some(1),
        ..GenerateScript::default()
    };
    let server = TestServer::checked(&Script::generating(generate))
        .start()
        .await?;
    server.ready().await?;
    let mut answer = server.client.generate("m").prompt("x").stream().await?;
    assert_eq!(chunk(&mut answer).await?, "t0 ");
    assert!(end(&mut answer).await.is_err());
    Ok(())
}

#[hangar_tests::test]
async fn a_response_that_is_none_is_an_error_whose_cause_stays_in_the_log() -> Result<()> {
    let generate = GenerateScript {
        nothing_after: Some(1),
        ..GenerateScript::default()
    };
    let server = TestServer::checked(&Script::generating(generate))
        .start()
        .await?;
    server.ready().await?;
    let mut answer = server.client.generate("m").prompt("x").stream().await?;
    assert_eq!(chunk(&mut answer).await?, "t0 ");
    let broken = refusal(
        end(&mut answer).await,
        Code::Internal,
        ErrorReason::Internal,
    );
    let id = &broken.details().metadata["error_id"];
    let log = server.log()?;
    let line = log.lines().find(|line| line.contains(id.as_str()));
    assert!(
        line.is_some_and(|line| line.contains("something that is no response")),
        "{log}"
    );
    let metrics = server.info().await?.metrics.unwrap_or_default();
    assert_eq!((metrics.requests_failed, metrics.in_flight), (1, 0));
    Ok(())
}
