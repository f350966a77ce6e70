//! What GetInfo counts.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelMetrics};
use hangar_tests::{
    fixtures::Fixtures,
    refusals::refusal,
    scripted::{GenerateScript, Script},
    server::{DEADLINE, NEVER, TestServer},
};
use tonic::Code;

use super::changed;

async fn metrics(server: &TestServer) -> Result<ModelMetrics> {
    server.info().await?.metrics.context("metrics")
}

#[hangar_tests::test]
async fn every_request_is_counted_once_and_every_token() -> Result<()> {
    let server = TestServer::long(|spec| {
        spec.max_concurrency = 1;
        spec.max_queue = Some(0);
    })
    .await?;
    assert_eq!(metrics(&server).await?.success_rate, None);
    for (prompt, tokens) in [("a", 1), ("bcd", 20), ("efghi", 300)] {
        server.greedy(prompt).max_tokens(tokens).text().await?;
    }
    let after = metrics(&server).await?;
    assert_eq!((after.prompt_tokens, after.completion_tokens), (9, 321));
    assert!(after.tokens_per_second > 0.0);
    let first = after.time_to_first_token.context("latencies")?;
    assert_eq!(
        (first.count, after.time_per_output_token.map(|t| t.count)),
        (3, Some(2))
    );
    let quantiles = [first.p50, first.p95, first.p99];
    assert!(quantiles.is_sorted_by_key(|time| time.map(|time| (time.seconds, time.nanos))));

    let too_long = server.greedy("x").max_tokens(100_000).text().await;
    refusal(
        too_long,
        Code::InvalidArgument,
        ErrorReason::ContextExceeded,
    );
    let running = server.greedy("Hello").max_tokens(16_000).stream().await?;
    let full = server.greedy("Hello").text().await;
    refusal(full, Code::ResourceExhausted, ErrorReason::QueueFull);
    drop(running);
    server.until_occupancy(0, 0).await?;
    let invalid = server.greedy("").text().await;
    refusal(invalid, Code::InvalidArgument, ErrorReason::InvalidField);

    let all = metrics(&server).await?;
    assert_eq!((all.requests_total, all.requests_succeeded), (6, 3));
    assert_eq!((all.requests_failed, all.requests_cancelled), (2, 1));
    assert_eq!(all.success_rate, Some(3.0 / 5.0));
    assert_eq!(all.prompt_tokens, 9);
    let info = server.info().await?;
    assert!(info.metadata.context("metadata")?.last_used_time.is_some());
    Ok(())
}

#[hangar_tests::test]
async fn text_held_back_for_a_stop_text_is_not_counted_again() -> Result<()> {
    let plain = TestServer::tiny().await?;
    let text = plain.greedy("Hello").max_tokens(40).text().await?.text;
    let end = text[25..].chars().next().unwrap_or_default();
    let at = text.find(end).unwrap_or(0);
    let token = plain.client.tokenize("m", end).send().await?;
    let fixtures = Fixtures::new()?;
    let path = changed(&fixtures, "generation_config.json", |config| {
        config["eos_token_id"] = token.into();
    })?;
    let server = TestServer::real()
        .fixtures(&fixtures)
        .serving(&path, |_| ())
        .await?;
    let almost = format!("{}\u{1}", &text[..at]);
    let answer = server
        .greedy("Hello")
        .max_tokens(40)
        .stop(almost)
        .text()
        .await?;
    assert_eq!(answer.text, text[..at]);
    assert_eq!(metrics(&server).await?.completion_tokens as usize, at);
    Ok(())
}

#[hangar_tests::test]
async fn the_causes_of_internal_errors_stay_in_the_log() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.directory("m")?;
    let generate = GenerateScript {
        error_after: Some(2),
        ..GenerateScript::default()
    };
    let script = Script {
        generate,
        ..Script::default()
    };
    script.write(&path)?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .time("--hang-timeout", NEVER);
    let server = options.serving(&path, |_| ()).await?;
    let answer = tokio::time::timeout(DEADLINE, server.greedy("x").text()).await?;
    let refusal = refusal(answer, Code::Internal, ErrorReason::Internal);
    assert!(!refusal.message().contains("script"), "{refusal}");
    let id = &refusal.details().metadata["error_id"];
    let log = server.log()?;
    let line = log.lines().find(|line| line.contains(id.as_str()));
    assert!(
        line.is_some_and(|line| line.contains("the script wants an error")),
        "{log}"
    );
    assert_eq!(metrics(&server).await?.requests_failed, 1);
    Ok(())
}
