//! Models that are not there, not yet there, or go while they answer.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    GenerateEvent, GenerateStream,
    v1::{ErrorReason, GenerateDone, ModelState},
};
use hangar_tests::{
    fixtures::{Broken, Fixtures},
    processes,
    refusals::refusal,
    scripted::{Gate, LoadScript, Script},
    server::{TestServer, spec},
};
use tonic::Code;

/// Tokens of an answer that takes seconds.
const LONG: u32 = 16_000;

/// Reads an answer to its end.
async fn rest(mut stream: GenerateStream) -> Result<(String, GenerateDone), hangar_client::Error> {
    let mut text = String::new();
    loop {
        match stream.next().await.transpose()? {
            Some(GenerateEvent::Chunk(chunk)) => text.push_str(&chunk.text),
            Some(GenerateEvent::Done(done)) => return Ok((text, done)),
            None => return Err(hangar_client::Error::Protocol("no end")),
        }
    }
}

#[hangar_tests::test]
async fn a_model_that_was_unloaded_is_not_loaded() -> Result<()> {
    let server = TestServer::tiny().await?;
    let client = &server.client;
    client.unload("m").send().await?;
    let answers = [
        server.greedy("x").text().await.map(|_| ()),
        client.tokenize("m", "x").send().await.map(|_| ()),
        client.detokenize("m", [70]).send().await.map(|_| ()),
    ];
    for answer in answers {
        let refusal = refusal(
            answer,
            Code::FailedPrecondition,
            ErrorReason::ModelNotLoaded,
        );
        assert_eq!(refusal.details().metadata["model_id"], "m");
        assert!(refusal.message().contains("LoadModel"), "{refusal}");
    }
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!(
        metrics.requests_total, 0,
        "what was not let in does not count"
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_request_to_a_failed_model_gets_the_reason() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let load = client
        .load("m")
        .spec(spec(&fixtures.broken(Broken::Garbage)?));
    refusal(
        load.wait().await,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    let answer = client.generate("m").prompt("x").text().await;
    let refusal = refusal(
        answer,
        Code::FailedPrecondition,
        ErrorReason::ModelNotLoaded,
    );
    assert!(refusal.message().contains("MODEL_UNUSABLE"), "{refusal}");
    Ok(())
}

#[hangar_tests::test]
async fn a_request_to_a_loading_model_gets_a_retry_delay() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.directory("m")?;
    let gate = Gate::new(&path, "load")?;
    let load = LoadScript {
        gate: Some("load".into()),
        ..LoadScript::default()
    };
    let script = Script {
        load,
        ..Script::default()
    };
    script.write(&path)?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut transitions = server.follow("m").await?;
    client.load("m").spec(spec(&path)).send().await?;
    transitions.until(ModelState::Loading).await?;
    let answers = [
        client.generate("m").prompt("x").text().await.map(|_| ()),
        client.tokenize("m", "x").send().await.map(|_| ()),
    ];
    for answer in answers {
        let refusal = refusal(answer, Code::Unavailable, ErrorReason::ModelLoading);
        assert!(
            refusal
                .details()
                .retry_after
                .is_some_and(|after| after > Duration::ZERO)
        );
        assert_eq!(refusal.details().metadata["model_id"], "m");
    }
    gate.step(1)?;
    transitions.until(ModelState::Ready).await?;
    client.generate("m").prompt("x").text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_lets_a_running_answer_end() -> Result<()> {
    let server = TestServer::long(|spec| spec.max_concurrency = 1).await?;
    let whole = server.greedy("Hello").max_tokens(2000).text().await?.text;
    let mut transitions = server.follow("m").await?;
    let worker = server.worker().await?;
    let stream = server.greedy("Hello").max_tokens(2000).stream().await?;
    let waits = server.greedy("Hello").max_tokens(10).stream();
    let during = async {
        server.until_occupancy(1, 1).await?;
        let unload = server.client.unload("m").send();
        let newcomer = async {
            transitions.until(ModelState::Draining).await?;
            anyhow::Ok(server.greedy("x").text().await)
        };
        let (unload, newcomer) = tokio::join!(unload, newcomer);
        refusal(
            newcomer?,
            Code::FailedPrecondition,
            ErrorReason::ModelNotLoaded,
        );
        anyhow::Ok(unload?)
    };
    let waits = async {
        let stream = waits.await?;
        anyhow::Ok(rest(stream).await?)
    };
    let (ended, waited, unload) = tokio::join!(rest(stream), waits, during);
    assert_eq!(ended?.0, whole);
    assert_eq!(waited?.0, whole[..10]);
    let unload = unload?;
    assert!(unload.was_loaded && !unload.killed, "{unload:?}");
    assert!(!processes::exists(worker));
    Ok(())
}

#[hangar_tests::test]
async fn a_forced_unload_ends_what_runs_and_what_waits() -> Result<()> {
    let server = TestServer::long(|spec| spec.max_concurrency = 1).await?;
    let running = server.greedy("Hello").max_tokens(LONG).stream().await?;
    let waits = server.greedy("Hello").text();
    let unload = async {
        server.until_occupancy(1, 1).await?;
        anyhow::Ok(server.client.unload("m").force().send().await?)
    };
    let (running, waited, unload) = tokio::join!(rest(running), waits, unload);
    refusal(running, Code::Unavailable, ErrorReason::ModelUnloaded);
    refusal(waited, Code::Unavailable, ErrorReason::ModelUnloaded);
    assert!(unload?.was_loaded);
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!((metrics.requests_total, metrics.requests_failed), (2, 2));
    Ok(())
}

#[hangar_tests::test]
async fn a_drain_ends_at_its_timeout() -> Result<()> {
    let server = TestServer::long(|_| ()).await?;
    let running = server.greedy("Hello").max_tokens(LONG).stream().await?;
    let unload = server
        .client
        .unload("m")
        .drain_timeout(Duration::from_millis(200));
    let (running, unload) = tokio::join!(rest(running), unload.send());
    refusal(running, Code::Unavailable, ErrorReason::ModelUnloaded);
    let elapsed = Duration::try_from(unload?.elapsed.context("a time")?)?;
    assert!(elapsed >= Duration::from_millis(200), "{elapsed:?}");
    Ok(())
}
