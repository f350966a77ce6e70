//! Calls that the engine has no part in, while the worker is at fault.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState};
use hangar_tests::{
    fixtures::Fixtures,
    processes,
    refusals::refusal,
    server::{DEADLINE, TestServer, spec},
};
use tonic::Code;

#[hangar_tests::test]
async fn a_worker_that_falls_silent_under_tokenize_is_killed() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::real()
        .fixtures(&fixtures)
        .time("--hang-timeout", Duration::from_secs(1));
    let server = options.start().await?;
    let client = server.connect().await?;
    let loaded = client
        .load("m")
        .spec(spec(&fixtures.llama()?))
        .wait()
        .await?;
    let worker = loaded.status.context("a status")?.worker_pid;
    let mut model = server.follow("m").await?;
    processes::stop(worker, DEADLINE).await?;
    let refused = refusal(
        client.tokenize("m", "x").send().await,
        Code::Unavailable,
        ErrorReason::WorkerHung,
    );
    assert!(refused.details().retry_after.is_some());
    let failed = model.until(ModelState::Failed).await?;
    assert_eq!(failed.reason, "WORKER_HUNG");
    assert!(!processes::is_running(worker));
    Ok(())
}
