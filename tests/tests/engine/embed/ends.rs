//! Requests that cannot wait, and requests whose model goes while they run.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelKind, ModelSpec, ModelState};
use hangar_tests::{
    fixtures::Embedding,
    info,
    refusals::refusal,
    scripted::{GenerateScript, Script},
    server::{DEADLINE, TestServer, restarting},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;
use tonic::Code;

use super::many;

/// A scripted embedding model, which makes vectors as a text model makes tokens.
fn scripted(server: &TestServer) -> ModelSpec {
    let mut spec = server.spec();
    spec.set_kind(ModelKind::Embedding);
    spec.max_concurrency = 1;
    spec.max_queue = Some(1);
    spec
}

#[hangar_tests::test]
async fn one_more_than_may_wait_is_refused_with_a_time_to_come_back() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::generating(GenerateScript {
            gate: Some("token".into()),
            ..GenerateScript::default()
        }))
        .start()
        .await?;
    let gate = server.gate("token")?;
    server
        .client
        .load("m")
        .spec(scripted(&server))
        .wait()
        .await?;
    let ask = || server.client.embed("m").inputs(["a", "b"]).send();
    let others = async {
        info::until_occupancy(&server.client, "m", 1, 1).await?;
        let mut stub = server.client.inference_service();
        let request = hangar_client::v1::EmbedRequest {
            model_id: "m".into(),
            inputs: vec!["x".into()],
            ..Default::default()
        };
        let third = stub.embed(request).await;
        let third =
            third.map_err(|status| hangar_client::Error::from_answer(&server.client, status));
        let refusal = refusal(third, Code::ResourceExhausted, ErrorReason::QueueFull);
        assert!(refusal.details().retry_after.is_some());
        gate.open()?;
        anyhow::Ok(())
    };
    let both = async {
        let (one, two) = tokio::try_join!(ask(), ask())?;
        assert_eq!((one.embeddings.len(), two.embeddings.len()), (2, 2));
        anyhow::Ok(())
    };
    timeout(DEADLINE, async { tokio::try_join!(both, others) }).await??;
    Ok(())
}

#[hangar_tests::test]
async fn an_engine_that_hangs_in_a_request_is_replaced() -> Result<()> {
    let script = Script::generating(GenerateScript {
        hang_after: Some(1),
        ..GenerateScript::default()
    });
    let limit = Duration::from_millis(1500);
    let server = TestServer::scripted()
        .script(&script)
        .time("--hang-timeout", limit)
        .start()
        .await?;
    let mut transitions = server.follow("m").await?;
    let mut spec = restarting(
        &server.directory,
        hangar_client::v1::RestartMode::OnFailure,
        5,
    );
    spec.set_kind(ModelKind::Embedding);
    server.client.load("m").spec(spec).wait().await?;
    transitions.until(ModelState::Ready).await?;
    let request = hangar_client::v1::EmbedRequest {
        model_id: "m".into(),
        inputs: vec!["a".into(), "b".into()],
        ..Default::default()
    };
    let answer = server.client.inference_service().embed(request).await;
    let answer = answer.map_err(|status| hangar_client::Error::from_answer(&server.client, status));
    refusal(answer, Code::Unavailable, ErrorReason::WorkerHung);
    assert_eq!(transitions.next().await?.state(), ModelState::Backoff);
    assert_eq!(transitions.until(ModelState::Ready).await?.restarts, 1);
    Ok(())
}

#[hangar_tests::test]
async fn fewer_vectors_than_texts_are_never_passed_on() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::generating(GenerateScript {
            tokens: Some(1),
            ..GenerateScript::default()
        }))
        .start()
        .await?;
    server
        .client
        .load("m")
        .spec(scripted(&server))
        .wait()
        .await?;
    let answer = server.client.embed("m").inputs(["a", "b"]).send().await;
    refusal(answer, Code::Internal, ErrorReason::Internal);
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_ends_what_runs_when_its_time_is_up() -> Result<()> {
    let server = TestServer::embedding(Embedding::Gemma).await?;
    let ask = async {
        let request = hangar_client::v1::EmbedRequest {
            model_id: "m".into(),
            inputs: many(),
            ..Default::default()
        };
        let answer = server.client.inference_service().embed(request).await;
        anyhow::Ok(answer.map_err(|s| hangar_client::Error::from_answer(&server.client, s)))
    };
    let unload = async {
        server.until_occupancy(1, 0).await?;
        let unload = server.client.unload("m").drain_timeout(Duration::ZERO);
        let unload = unload.send().await?;
        assert!(unload.was_loaded && unload.host_bytes_freed > 0);
        anyhow::Ok(())
    };
    let (answer, ()) = timeout(DEADLINE, async { tokio::try_join!(ask, unload) }).await??;
    refusal(answer, Code::Unavailable, ErrorReason::ModelUnloaded);
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_lets_what_runs_end() -> Result<()> {
    let server = TestServer::embedding(Embedding::Qwen3).await?;
    let texts: Vec<_> = many().into_iter().take(200).collect();
    let ask = async { Ok(server.client.embed("m").inputs(texts).send().await?) };
    let unload = async {
        server.until_occupancy(1, 0).await?;
        server.client.unload("m").send().await?;
        anyhow::Ok(())
    };
    let (answer, ()) = timeout(DEADLINE, async { tokio::try_join!(ask, unload) }).await??;
    assert_eq!(answer.embeddings.len(), 200);
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_that_is_killed_ends_what_runs() -> Result<()> {
    let server = TestServer::embedding(Embedding::Qwen3).await?;
    let worker = i32::try_from(server.worker().await?)?;
    let worker = Pid::from_raw(worker).context("a process")?;
    let ask = async {
        let request = hangar_client::v1::EmbedRequest {
            model_id: "m".into(),
            inputs: many(),
            ..Default::default()
        };
        let answer = server.client.inference_service().embed(request).await;
        anyhow::Ok(answer.map_err(|s| hangar_client::Error::from_answer(&server.client, s)))
    };
    let kill = async {
        server.until_occupancy(1, 0).await?;
        kill_process(worker, Signal::KILL)?;
        anyhow::Ok(())
    };
    let (answer, ()) = timeout(DEADLINE, async { tokio::try_join!(ask, kill) }).await??;
    refusal(answer, Code::Unavailable, ErrorReason::WorkerDied);
    Ok(())
}
