//! Which strategy AUTO takes.

use anyhow::{Context, Result};
use hangar_client::v1::{ModelState, SwitchOutcome, SwitchStrategy};
use hangar_tests::{fixtures::Fixtures, server::TestServer, stubs::switch};

use super::{ALIAS, carried_out, one_and_two, state, target};

/// What a model that is loaded holds, in bytes.
async fn held(server: &TestServer, model_id: &str) -> Result<u64> {
    let status = server.stubs.info(model_id).await?.status;
    let memory = status.and_then(|status| status.memory).context("memory")?;
    Ok(memory.host_bytes)
}

/// A second server with the data of the first, which has seen what both models hold, and with memory for
/// so much of that. What the switch's strategy is.
async fn strategy(share: f64) -> Result<SwitchStrategy> {
    let data = tempfile::tempdir()?;
    let fixtures = Fixtures::new()?;
    let options = TestServer::real().fixtures(&fixtures).data_in(data.path());
    let server = options.start().await?;
    let mut watch = one_and_two(&server).await?;
    let request = switch(ALIAS, "two", SwitchStrategy::LoadFirst);
    carried_out(&server, &mut watch, request).await?;
    let two = held(&server, "two").await?;
    let back = switch(ALIAS, "one", SwitchStrategy::LoadFirst);
    carried_out(&server, &mut watch, back).await?;
    let one = held(&server, "one").await?;
    watch.until("two", ModelState::Unloaded).await?;

    let limit = ((one + two) as f64 * share) as u64;
    server.terminate().await?;
    let options = options
        .argument("--memory-limit")
        .argument(limit.to_string());
    let server = options.start().await?;
    let mut watch = server.watch().await?;
    watch.until("one", ModelState::Ready).await?;
    let request = switch(ALIAS, "two", SwitchStrategy::Auto);
    let ended = carried_out(&server, &mut watch, request).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded, "{ended:?}");
    assert_eq!(target(&server).await?, "two");
    watch.until("one", ModelState::Unloaded).await?;
    assert_eq!(state(&server, "two").await?, ModelState::Ready);
    server.answer(ALIAS).await?;
    Ok(ended.strategy())
}

#[hangar_tests::test]
async fn auto_loads_first_where_both_models_fit() -> Result<()> {
    assert_eq!(strategy(4.0).await?, SwitchStrategy::LoadFirst);
    Ok(())
}

#[hangar_tests::test]
async fn auto_unloads_first_where_only_one_fits() -> Result<()> {
    // One of them with its headroom, but not both.
    assert_eq!(strategy(0.85).await?, SwitchStrategy::UnloadFirst);
    Ok(())
}
