//! Many large requests at once.

use anyhow::{Context, Result};
use hangar_client::{Error, GenerateStream, v1::ErrorReason};
use hangar_tests::{
    refusals::refusal,
    scripted::Script,
    server::{DEADLINE, TestServer},
};
use tokio::{task::yield_now, time::timeout};
use tonic::Code;

use super::with_little_memory;

/// Of which three would fit, were it not for what the last one needs while it is read.
const REQUEST: usize = 7 << 20;

#[hangar_tests::test]
async fn large_requests_have_a_bounded_memory_together() -> Result<()> {
    let options = TestServer::scripted()
        .script(&Script::gated())
        .with(with_little_memory);
    let server = options.start().await?;
    server.ready().await?;
    let _closed = server.gate("token")?;
    let ask = async || -> Result<GenerateStream, Error> {
        let ask = server.client.generate("m").prompt("x".repeat(REQUEST));
        ask.stream().await
    };
    let running = [ask().await?, ask().await?];
    let refused = refusal(
        ask().await,
        Code::ResourceExhausted,
        ErrorReason::LimitReached,
    );
    assert!(refused.details().retry_after.is_some());
    // Small ones are free.
    server.client.info().send().await?;
    drop(running);
    let next = async {
        while ask().await.is_err() {
            yield_now().await;
        }
    };
    timeout(DEADLINE, next)
        .await
        .context("no memory is given back")
}
