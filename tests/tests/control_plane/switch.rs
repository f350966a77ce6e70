//! SwitchModel: an alias moves from one model to another without a gap, or not at all.

mod aliases;
mod crashes;
mod held_models;
mod load_first;
mod memory;
mod refusals;
mod rollbacks;
mod traffic;

use anyhow::{Context, Result};
use hangar_client::v1::{
    ModelState, SwitchInfo, SwitchModelRequest, SwitchOutcome, SwitchStrategy,
};
use hangar_tests::{fleet_watch::FleetWatch, server::TestServer, stubs::switch};

const ALIAS: &str = "chat";

/// Carries a switch out and gives how it ended.
async fn carried_out(
    server: &TestServer,
    watch: &mut FleetWatch,
    request: SwitchModelRequest,
) -> Result<SwitchInfo> {
    let begun = server.stubs.switch(request).await?;
    let ended = watch.ended(&begun.switch_id).await?;
    assert_eq!(ended.strategy, begun.strategy);
    Ok(ended)
}

/// Points the alias at a model that is READY.
async fn point(server: &TestServer, watch: &mut FleetWatch, model_id: &str) -> Result<()> {
    let request = switch(ALIAS, model_id, SwitchStrategy::LoadFirst);
    let ended = carried_out(server, watch, request).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded, "{ended:?}");
    Ok(())
}

/// Two real models, "one" and "two", registered; the alias stands for "one", which is READY.
async fn one_and_two(server: &TestServer) -> Result<FleetWatch> {
    server.qwen("two").await?;
    server.client.unload("two").send().await?;
    server.llama("one").await?;
    let mut watch = server.watch().await?;
    point(server, &mut watch, "one").await?;
    Ok(watch)
}

async fn state(server: &TestServer, model_id: &str) -> Result<ModelState> {
    let info = server.stubs.info(model_id).await?;
    Ok(info.status.context("a status")?.state())
}

/// The model that the alias stands for.
async fn target(server: &TestServer) -> Result<String> {
    Ok(server.stubs.info(ALIAS).await?.model_id)
}

/// The last switch of the alias, as GetInfo reports it.
async fn last(server: &TestServer) -> Result<SwitchInfo> {
    let switches = server.stubs.switches().await?;
    let mut of_alias = switches.into_iter().filter(|switch| switch.alias == ALIAS);
    let last = of_alias.next().context("no switch")?;
    assert_eq!(of_alias.next(), None, "more than the last one is reported");
    Ok(last)
}
