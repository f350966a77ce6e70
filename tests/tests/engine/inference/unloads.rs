//! Models that are not there, not yet there, or go while they answer.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    GenerateEvent, GenerateStream,
    v1::{ErrorReason, GenerateDone, ModelState},
};
use hangar_tests::{
    fixtures::{Broken, Fixtures},
    hangar::{Hangar, Options, spec},
    processes,
    refusals::refusal,
    scripted::{Gate, LoadScript, Script},
};
use tonic::Code;

use super::Served;

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

#[tokio::test]
async fn a_model_that_was_unloaded_is_not_loaded() -> Result<()> {
    let served = Served::tiny().await?;
    let client = &served.client;
    client.unload("m").send().await?;
    let answers = [
        served.greedy("x").text().await.map(|_| ()),
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
    let metrics = served.model().await?.metrics.context("metrics")?;
    assert_eq!(
        metrics.requests_total, 0,
        "what was not let in does not count"
    );
    Ok(())
}

#[tokio::test]
async fn a_request_to_a_failed_model_gets_the_reason() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    let client = hangar.client().await?;
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

#[tokio::test]
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
    let hangar = Hangar::start(Options::scripted(&fixtures)).await?;
    let client = hangar.client().await?;
    let mut transitions = hangar.follow("m").await?;
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

#[tokio::test]
async fn an_unload_lets_a_running_answer_end() -> Result<()> {
    let served = Served::long(|spec| spec.max_concurrency = 1).await?;
    let whole = served.greedy("Hello").max_tokens(2000).text().await?.text;
    let mut transitions = served.hangar.follow("m").await?;
    let worker = served.worker().await?;
    let stream = served.greedy("Hello").max_tokens(2000).stream().await?;
    let waits = served.greedy("Hello").max_tokens(10).stream();
    let during = async {
        served.until_occupancy(1, 1).await?;
        let unload = served.client.unload("m").send();
        let newcomer = async {
            transitions.until(ModelState::Draining).await?;
            anyhow::Ok(served.greedy("x").text().await)
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

#[tokio::test]
async fn a_forced_unload_ends_what_runs_and_what_waits() -> Result<()> {
    let served = Served::long(|spec| spec.max_concurrency = 1).await?;
    let running = served.greedy("Hello").max_tokens(LONG).stream().await?;
    let waits = served.greedy("Hello").text();
    let unload = async {
        served.until_occupancy(1, 1).await?;
        anyhow::Ok(served.client.unload("m").force().send().await?)
    };
    let (running, waited, unload) = tokio::join!(rest(running), waits, unload);
    refusal(running, Code::Unavailable, ErrorReason::ModelUnloaded);
    refusal(waited, Code::Unavailable, ErrorReason::ModelUnloaded);
    assert!(unload?.was_loaded);
    let metrics = served.model().await?.metrics.context("metrics")?;
    assert_eq!((metrics.requests_total, metrics.requests_failed), (2, 2));
    Ok(())
}

#[tokio::test]
async fn a_drain_ends_at_its_timeout() -> Result<()> {
    let served = Served::long(|_| ()).await?;
    let running = served.greedy("Hello").max_tokens(LONG).stream().await?;
    let unload = served
        .client
        .unload("m")
        .drain_timeout(Duration::from_millis(200));
    let (running, unload) = tokio::join!(rest(running), unload.send());
    refusal(running, Code::Unavailable, ErrorReason::ModelUnloaded);
    let elapsed = Duration::try_from(unload?.elapsed.context("a time")?)?;
    assert!(elapsed >= Duration::from_millis(200), "{elapsed:?}");
    Ok(())
}
