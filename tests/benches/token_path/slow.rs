//! What callers that do not read cost one that does, and what each of them holds in the server.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use hangar_client::v1::{
    GenerateRequest, GenerateResponse, Sampling, inference_service_client::InferenceServiceClient,
};
use hangar_tests::{
    processes,
    server::{DEADLINE, TestServer, spec},
    timed::TimedAnswer,
};
use tokio::time::{interval, timeout};
use tonic::{Streaming, transport::Endpoint};

use super::Spread;

/// Callers that read nothing.
const SLOW: u32 = 20;

/// Tokens of each answer.
const TOKENS: u32 = 1000;

/// Answers of the caller that reads, with the others and without them, in turn.
const ROUNDS: usize = 10;

/// Measures and prints.
pub(super) async fn report(hangar: &TestServer, path: &Path, factor: f64) -> Result<()> {
    let client = hangar.connect().await?;
    client.load("slow").spec(spec(path)).wait().await?;
    // Not counted.
    TimedAnswer::ask(&client, "slow", "a", TOKENS).await?;
    let rounds = ((ROUNDS as f64 * factor) as usize).max(1);
    let (mut ratios, mut held) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let prompt = format!("{round:04}");
        let alone = TimedAnswer::ask(&client, "slow", &prompt, TOKENS)
            .await?
            .rate();
        let before = processes::host_bytes(hangar.pid())?;
        let unread = unread(hangar).await?;
        let after = processes::host_bytes(hangar.pid())?;
        held.push((after as f64 - before as f64) / f64::from(SLOW) / 1024.0);
        let beside = TimedAnswer::ask(&client, "slow", &prompt, TOKENS)
            .await?
            .rate();
        ratios.push(beside / alone);
        drop(unread);
    }
    println!("\n{SLOW} callers that do not read their {TOKENS} tokens, tiny model");
    println!("  another's tokens a second, ratio {}", Spread::of(ratios));
    println!("  held for each of them, KiB       {}", Spread::of(held));
    client.unload("slow").send().await?;
    Ok(())
}

/// Streams that nobody reads and that are complete. Each takes no more than a kilobyte.
async fn unread(hangar: &TestServer) -> Result<Vec<Streaming<GenerateResponse>>> {
    let mut streams = Vec::new();
    for n in 0..SLOW {
        // A connection of its own, as another caller would have.
        let endpoint = Endpoint::from_shared(hangar.url())?.initial_stream_window_size(1024);
        let mut stub = InferenceServiceClient::new(endpoint.connect().await?);
        let request = GenerateRequest {
            model_id: "slow".to_owned(),
            prompt: n.to_string(),
            max_tokens: TOKENS,
            sampling: Some(Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            }),
            ..GenerateRequest::default()
        };
        streams.push(stub.generate(request).await?.into_inner());
    }
    let client = hangar.connect().await?;
    let mut ticks = interval(Duration::from_millis(10));
    let done = async {
        loop {
            ticks.tick().await;
            let info = client.info().model("slow").metrics().send().await?;
            let model = info.models.first().context("no model")?;
            let metrics = model.metrics.as_ref().context("no metrics")?;
            if metrics.in_flight == 0 && metrics.queued == 0 {
                return anyhow::Ok(());
            }
        }
    };
    timeout(DEADLINE, done).await??;
    Ok(streams)
}
