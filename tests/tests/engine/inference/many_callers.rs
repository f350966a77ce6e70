//! More callers, and longer prompts, than anybody wants.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use hangar_client::v1::ErrorReason;
use hangar_tests::{
    refusals::{refusal, wrong_fields},
    server::TestServer,
};
use tokio::time::timeout;
use tonic::Code;

#[hangar_tests::test]
async fn a_thousand_callers_that_connect_request_and_disconnect_harm_nothing() -> Result<()> {
    let server = TestServer::long(|spec| spec.max_queue = Some(1000)).await?;
    let worker = server.worker().await?;
    let before = server.greedy("Hi").max_tokens(50).text().await?.text;
    for wave in 0..10 {
        let callers = (0..100u32).map(async |number| {
            let client = server.connect().await?;
            let request = client.generate("m").prompt("Hello").max_tokens(16_000);
            let request = match (number + wave) % 4 {
                0 => request.regex("[a-z]{9000}"),
                1 => request.priority(1).logprobs(20),
                _ => request,
            };
            let mut stream = pin!(request.stream());
            // Gone while the request is on its way, waits or runs.
            let _ = timeout(Duration::from_micros(u64::from(number) * 100), &mut stream).await;
            anyhow::Ok(())
        });
        try_join_all(callers).await?;
    }
    server.until_occupancy(0, 0).await?;
    let after = server.greedy("Hi").max_tokens(50).text().await?.text;
    assert_eq!(after, before);
    assert_eq!(server.worker().await?, worker);
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!(
        (metrics.requests_succeeded, metrics.requests_failed),
        (2, 0)
    );
    Ok(())
}

#[hangar_tests::test]
async fn prompts_of_any_length_get_their_answer_or_their_error() -> Result<()> {
    const CONTEXT: usize = 256;
    let server = TestServer::tiny().await?;
    let worker = server.worker().await?;
    let before = server.greedy("Hello").max_tokens(20).text().await?.text;
    assert_eq!(wrong_fields(server.greedy("").text().await), ["prompt"]);
    for (length, left) in [(1, CONTEXT - 1), (CONTEXT - 1, 1)] {
        let answer = server.greedy(&"x".repeat(length)).text().await?;
        let usage = answer.done.usage.unwrap_or_default();
        let counted = (
            usage.prompt_tokens as usize,
            usage.completion_tokens as usize,
        );
        assert_eq!(counted, (length, left));
    }
    for length in [CONTEXT, CONTEXT + 1, 1_000_000] {
        for chat in [false, true] {
            let text = "x".repeat(length);
            let request = match chat {
                false => server.greedy(&text),
                true => server.client.generate("m").message("user", text),
            };
            let request = request.regex("[a-z]+").seed(1).logprobs(1);
            let answer = request.text().await;
            refusal(answer, Code::InvalidArgument, ErrorReason::ContextExceeded);
        }
        let after = server.greedy("Hello").max_tokens(20).text().await?.text;
        assert_eq!(after, before, "{length}");
    }
    assert_eq!(server.worker().await?, worker);
    Ok(())
}
