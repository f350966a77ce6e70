//! What loads have taught is kept.

use anyhow::{Context, Result};
use hangar_client::{convert::to_duration, v1::LoadOutcome};
use hangar_tests::{info, installation::Installation, server::spec};

#[hangar_tests::test]
async fn learned_facts_survive_restarts_and_enter_estimates() -> Result<()> {
    let installation = Installation::real()?;
    let path = installation.fixtures.llama()?;
    let server = installation.start().await?;
    let client = server.connect().await?;
    let first = client.load("m").spec(spec(&path)).send().await?;
    assert!(first.estimated_load_time.is_none(), "nothing is known yet");
    client.load("m").wait().await?;
    client
        .generate("m")
        .prompt("x")
        .max_tokens(2)
        .text()
        .await?;
    client.unload("m").send().await?;
    let before = info::model(&client, "m").await?;
    installation.kill(server).await?;

    let server = installation.start().await?;
    let client = server.connect().await?;
    let after = info::model(&client, "m").await?;
    let learned = after.learned.clone().context("learned facts")?;
    assert_eq!(Some(&learned), before.learned.as_ref());
    assert_eq!((learned.loads_succeeded, learned.loads_failed), (1, 0));
    assert!(learned.memory.context("memory")?.host_bytes > 1 << 20);
    assert_eq!(after.recent_loads, before.recent_loads);
    assert_eq!(after.recent_loads[0].outcome(), LoadOutcome::Succeeded);
    assert_eq!(after.metadata, before.metadata);
    let load = client.load("m").send().await?;
    let estimate = load.estimated_load_time.context("an estimate")?;
    let took = learned.load_duration.context("a load")?;
    assert_eq!(to_duration(&estimate), to_duration(&took));
    Ok(())
}

#[hangar_tests::test]
async fn a_failure_is_remembered() -> Result<()> {
    let installation = Installation::real()?;
    let broken = installation
        .fixtures
        .broken(hangar_tests::fixtures::Broken::ALL[0])?;
    let server = installation.start().await?;
    let client = server.connect().await?;
    assert!(client.load("m").spec(spec(&broken)).wait().await.is_err());
    let before = info::model(&client, "m").await?.learned.context("facts")?;
    // A later change writes down what came before it.
    client.unload("m").send().await?;
    installation.kill(server).await?;

    let server = installation.start().await?;
    let after = info::model(&server.connect().await?, "m").await?;
    let learned = after.learned.context("learned facts")?;
    assert_eq!(learned, before);
    assert_eq!(learned.loads_failed, 1);
    assert!(!learned.last_failure_reason.is_empty() && !learned.last_failure_message.is_empty());
    Ok(())
}
