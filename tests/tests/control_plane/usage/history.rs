//! The day, in stretches of a second so that nobody waits for minutes.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    convert::{to_duration, to_system_time},
    v1::{ModelInfo, UsageSample},
};
use hangar_tests::{refusals::wrong_fields, server::TestServerBuilder};

use super::UsedServer;

/// A sample each second.
pub(super) fn hurried(options: TestServerBuilder) -> TestServerBuilder {
    options.time("--history-interval", Duration::from_secs(1))
}

/// Requests, tokens of prompts and tokens of answers.
pub(super) fn sums(history: &[UsageSample]) -> (u64, u64, u64) {
    let sum = |of: fn(&UsageSample) -> u64| history.iter().map(of).sum();
    (
        sum(|sample| sample.succeeded),
        sum(|sample| sample.prompt_tokens),
        sum(|sample| sample.completion_tokens),
    )
}

/// The history of a model once it has at least so many samples.
async fn history_of(used: &UsedServer, id: &str, samples: usize) -> Result<Vec<UsageSample>> {
    let long_enough = |model: &ModelInfo| {
        let history = &model.history;
        (history.len() >= samples).then(|| history.clone())
    };
    used.when(id, long_enough).await
}

#[hangar_tests::test]
async fn history_samples_are_contiguous_and_add_up_with_the_requests() -> Result<()> {
    let mut used = UsedServer::start(hurried).await?;
    for round in 1..=3 {
        used.ask("What is Hangar?", 64).await?;
        history_of(&used, "demo", round).await?;
    }
    let sent = used.sent;
    let expected = (sent.requests, sent.prompt_tokens, sent.completion_tokens);
    let whole = |model: &ModelInfo| {
        let history = &model.history;
        (sums(history) == expected).then(|| history.clone())
    };
    let history = used.when("demo", whole).await?;
    assert!(history.len() >= 3, "{history:?}");
    let mut end = None;
    for sample in &history {
        let start = sample.start_time.as_ref().and_then(to_system_time);
        let start = start.context("a start")?;
        let duration = sample
            .duration
            .as_ref()
            .map(to_duration)
            .context("a duration")?;
        // Of the same clock, but for what comes between a look at the clock of time and one at that of stretches.
        assert!(
            end.is_none_or(|end| start + duration / 2 >= end),
            "{history:?}"
        );
        end = Some(start + duration);
        let rate = sample.completion_tokens as f64 / duration.as_secs_f64().max(1.0);
        assert!((sample.tokens_per_second - rate).abs() < 0.5, "{sample:?}");
        assert_eq!(sample.requests, sample.succeeded);
        assert_eq!(sample.success_rate, (sample.requests > 0).then_some(1.0));
    }
    let held = history.iter().filter_map(|sample| sample.memory);
    assert!(held.clone().all(|memory| memory.host_bytes > 0));
    assert!(
        held.count() + 1 >= history.len(),
        "it was loaded all the time"
    );
    let first: u64 = history
        .iter()
        .filter_map(|sample| sample.time_to_first_token)
        .map(|latency| latency.count)
        .sum();
    assert_eq!(first, sent.requests);
    Ok(())
}

#[hangar_tests::test]
async fn history_leaves_out_times_without_load_and_use() -> Result<()> {
    let used = UsedServer::start(hurried).await?;
    let loaded = history_of(&used, "demo", 2).await?;
    assert_eq!(sums(&loaded), (0, 0, 0));
    used.client.unload("demo").send().await?;
    let before = used.model("demo").await?.history.len();
    used.load_another().await?;
    history_of(&used, "m", 3).await?;
    assert_eq!(used.model("demo").await?.history.len(), before);
    Ok(())
}

#[hangar_tests::test]
async fn history_can_be_asked_for_one_model() -> Result<()> {
    let used = UsedServer::start(hurried).await?;
    let of_all = used.client.info().include_history().send().await;
    assert_eq!(wrong_fields(of_all), ["include_history"]);
    history_of(&used, "demo", 1).await?;
    let info = used.client.info().model("demo").metrics().send().await?;
    assert!(info.models[0].history.is_empty());
    Ok(())
}
