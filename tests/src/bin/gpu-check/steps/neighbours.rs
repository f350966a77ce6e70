//! What one model on a device does to another.

use anyhow::{Context, Result, ensure};
use hangar_client::{
    GenerateEvent,
    v1::{ErrorReason, ModelState},
};
use hangar_tests::processes;
use rustix::process::Signal;

use super::gb;
use crate::{
    bench::{Bench, PROMPT, TOLERANCE},
    report::Finding,
};

/// Two models on one device answer in turn as each does alone.
pub(super) async fn two_models(bench: &Bench) -> Result<Finding> {
    let large = bench.models.sized.first().context("no model")?;
    let before = bench.free_at_rest().await?;
    bench
        .load("one", large.on(&bench.plan.device, None))
        .await?;
    let alone = bench.answer("one", PROMPT, 32).await?.text;
    let other = bench.models.exact.on(&bench.plan.device, None);
    bench.load("two", other).await?;
    let second = bench.answer("two", PROMPT, 32).await?.text;
    for _ in 0..3 {
        let (one, two) = tokio::join!(
            bench.answer("one", PROMPT, 32),
            bench.answer("two", PROMPT, 32)
        );
        ensure!(
            one?.text == alone,
            "the first answers otherwise beside the second"
        );
        ensure!(
            two?.text == second,
            "the second answers otherwise beside the first"
        );
    }
    bench.unload("one").await?;
    let still = bench.answer("two", PROMPT, 32).await?.text;
    ensure!(
        still == second,
        "the second answers otherwise without the first"
    );
    bench.unload("two").await?;
    let missing = missing(bench, before).await?;
    Ok(Finding(format!("both answer as alone; {missing}")))
}

/// A worker that is killed in the middle of an answer ends that answer, and nothing else.
pub(super) async fn kill(bench: &Bench) -> Result<Finding> {
    let large = bench.models.sized.first().context("no model")?;
    let before = bench.free_at_rest().await?;
    bench
        .load("other", bench.models.exact.on(&bench.plan.device, None))
        .await?;
    let expected = bench.answer("other", PROMPT, 32).await?.text;
    bench
        .load("victim", large.on(&bench.plan.device, None))
        .await?;
    let ask = bench.client.generate("victim").prompt(PROMPT);
    let mut stream = ask.temperature(0.0).max_tokens(2000).stream().await?;
    let first = stream.next().await.context("no answer")??;
    ensure!(matches!(first, GenerateEvent::Chunk(_)), "{first:?}");
    let worker = bench.worker("victim").await?;
    let mut transitions = bench.follow("victim").await?;
    processes::signal(worker, Signal::KILL)?;
    let error = loop {
        match stream.next().await.context("the answer ended well")? {
            Ok(GenerateEvent::Chunk(_)) => {}
            Ok(GenerateEvent::Done(_)) => anyhow::bail!("the answer was over before the kill"),
            Err(error) => break error,
        }
    };
    ensure!(error.reason() == Some(ErrorReason::WorkerDied), "{error}");
    let beside = bench.answer("other", PROMPT, 32).await?.text;
    ensure!(beside == expected, "the other model answers otherwise");
    let failed = transitions.until(ModelState::Failed).await?;
    ensure!(failed.reason == "WORKER_DIED", "the victim is {failed:?}");
    ensure!(!processes::exists(worker), "worker {worker} is still there");
    bench.clear().await?;
    bench
        .load("victim", large.on(&bench.plan.device, None))
        .await?;
    bench.unload("victim").await?;
    let missing = missing(bench, before).await?;
    Ok(Finding(format!(
        "the answer ends with WORKER_DIED, the other model answers on, the model loads again; {missing}"
    )))
}

/// Sees that the device has its memory back, and says it.
async fn missing(bench: &Bench, before: Option<u64>) -> Result<String> {
    let Some(before) = before else {
        return Ok("no device memory to be seen".to_owned());
    };
    let wanted = before.saturating_sub(TOLERANCE);
    let after = bench.free(wanted).await?.unwrap_or_default();
    ensure!(
        after >= wanted,
        "{:.3} GB are missing on the device",
        gb(before - after)
    );
    let missing = before.saturating_sub(after) >> 20;
    Ok(format!("{missing} MiB of the device are missing"))
}
