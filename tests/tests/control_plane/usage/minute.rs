//! The last minute.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    convert::{to_duration, to_system_time},
    v1::{ErrorReason, LatencyQuantiles, ModelInfo, UsageSample},
};
use hangar_tests::refusals::refusal;
use tonic::Code;

use super::UsedServer;

fn last_minute(model: &ModelInfo) -> Result<UsageSample> {
    let metrics = model.metrics.as_ref().context("metrics")?;
    metrics.last_minute.context("the last minute")
}

#[hangar_tests::test]
async fn the_last_minute_of_a_model_that_nobody_asked_is_empty() -> Result<()> {
    let used = UsedServer::start(|options| options).await?;
    let minute = last_minute(&used.model("demo").await?)?;
    assert_eq!((minute.requests, minute.completion_tokens), (0, 0));
    assert_eq!((minute.success_rate, minute.tokens_per_second), (None, 0.0));
    assert!(minute.time_to_first_token.is_none() && minute.time_per_output_token.is_none());
    Ok(())
}

/// A server whose demo model has given three answers and refused one request.
async fn asked() -> Result<UsedServer> {
    let mut used = UsedServer::start(|options| options).await?;
    for (prompt, tokens) in [
        ("What is Hangar?", 64),
        ("What is 17 + 25?", 64),
        ("Hello", 1),
    ] {
        used.ask(prompt, tokens).await?;
    }
    let too_long = used.client.generate("demo").prompt("x");
    refusal(
        too_long.max_tokens(1_000_000).text().await,
        Code::InvalidArgument,
        ErrorReason::ContextExceeded,
    );
    Ok(used)
}

#[hangar_tests::test]
async fn the_last_minute_adds_up_with_the_requests() -> Result<()> {
    let used = asked().await?;
    let model = used.model("demo").await?;
    let (minute, sent) = (last_minute(&model)?, used.sent);
    assert_eq!(
        (minute.requests, minute.succeeded, minute.failed),
        (4, 3, 1)
    );
    assert_eq!((minute.cancelled, minute.success_rate), (0, Some(0.75)));
    assert_eq!(minute.prompt_tokens, sent.prompt_tokens);
    assert_eq!(minute.completion_tokens, sent.completion_tokens);
    let count = |latency: Option<LatencyQuantiles>| latency.map(|latency| latency.count);
    assert_eq!(count(minute.time_to_first_token), Some(3));
    assert_eq!(count(minute.time_per_output_token), Some(sent.long));

    let all = model.metrics.context("metrics")?;
    assert_eq!((all.requests_total, all.requests_failed), (4, 1));
    assert_eq!(all.tokens_per_second, minute.tokens_per_second);
    Ok(())
}

#[hangar_tests::test]
async fn the_last_minute_says_how_long_it_was_how_quick_and_what_memory_was_held() -> Result<()> {
    let used = asked().await?;
    let model = used.model("demo").await?;
    let minute = last_minute(&model)?;
    let duration = minute
        .duration
        .as_ref()
        .map(to_duration)
        .context("a duration")?;
    assert!(duration <= Duration::from_secs(60));
    let rate = used.sent.completion_tokens as f64 / duration.as_secs_f64().max(1.0);
    assert!(
        (minute.tokens_per_second / rate - 1.0).abs() < 0.01,
        "{minute:?}"
    );
    let start = minute.start_time.as_ref().and_then(to_system_time);
    assert!(start.context("a start")?.elapsed()? < duration + Duration::from_secs(5));
    let status = model.status.context("a status")?;
    let held = minute.memory.context("memory")?.host_bytes;
    assert_eq!(Some(held), status.memory.map(|memory| memory.host_bytes));
    Ok(())
}

#[hangar_tests::test]
async fn cancelled_requests_are_counted_apart() -> Result<()> {
    let used = UsedServer::start(|options| options).await?;
    used.load_another().await?;
    let request = used.client.generate("m").prompt("Hello").max_tokens(16_000);
    let mut running = request.stream().await?;
    running.next().await.context("a first chunk")??;
    drop(running);
    let ended = |model: &ModelInfo| last_minute(model).ok().filter(|minute| minute.requests > 0);
    let minute = used.when("m", ended).await?;
    assert_eq!((minute.requests, minute.cancelled), (1, 1));
    assert_eq!((minute.success_rate, minute.prompt_tokens), (None, 0));
    assert!(minute.completion_tokens > 0);
    let demo = last_minute(&used.model("demo").await?)?;
    assert_eq!((demo.requests, demo.completion_tokens), (0, 0));
    Ok(())
}
