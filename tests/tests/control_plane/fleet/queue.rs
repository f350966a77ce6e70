//! Which of the models that wait for a place among the loads is next.

use anyhow::Result;
use hangar_client::v1::{ModelSpec, ModelState};
use hangar_tests::{
    fixtures::Fixtures,
    fleet_watch::{FleetEvent, FleetWatch},
    scripted::{Gate, Script},
    server::TestServer,
};

/// A server that loads one model at a time, and a model in its load that takes the place until the gate is
/// opened.
async fn busy() -> Result<(TestServer, Gate)> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .argument("--max-concurrent-loads")
        .argument("1");
    let server = options.start().await?;
    let (path, spec) = server.script("first", &Script::gated())?;
    let gate = Gate::new(&path, "load")?;
    let mut watch = server.watch().await?;
    server.client.load("first").spec(spec).send().await?;
    watch.until("first", ModelState::Loading).await?;
    Ok((server, gate))
}

async fn queue(server: &TestServer, model_id: &str, required: bool, priority: i32) -> Result<()> {
    let (_, spec) = server.script(model_id, &Script::default())?;
    let spec = ModelSpec {
        required,
        priority,
        ..spec
    };
    let load = server.client.load(model_id).spec(spec).send().await?;
    let status = load.status.unwrap_or_default();
    assert_eq!(status.state(), ModelState::Pending, "{model_id}");
    Ok(())
}

/// The models in the order in which they start, until this one is READY.
async fn started(watch: &mut FleetWatch, last: &str) -> Result<Vec<String>> {
    let mut started = Vec::new();
    while watch.state(last) != ModelState::Ready {
        if let FleetEvent::State(model, ModelState::Starting) = watch.next().await? {
            started.push(model);
        }
    }
    Ok(started)
}

#[hangar_tests::test]
async fn required_models_load_first_then_by_priority_then_by_arrival() -> Result<()> {
    let (server, gate) = busy().await?;
    queue(&server, "low", false, -1).await?;
    queue(&server, "second", false, 5).await?;
    queue(&server, "third", false, 5).await?;
    queue(&server, "required-low", true, -9).await?;
    queue(&server, "required-high", true, 9).await?;
    queue(&server, "usual", false, 0).await?;
    let mut watch = server.watch().await?;
    gate.open()?;
    assert_eq!(
        started(&mut watch, "low").await?,
        [
            "required-high",
            "required-low",
            "second",
            "third",
            "usual",
            "low"
        ]
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_leaves_the_queue_holds_nobody_up() -> Result<()> {
    let (server, gate) = busy().await?;
    queue(&server, "leaves", false, 9).await?;
    queue(&server, "stays", false, 0).await?;
    server.client.unload("leaves").send().await?;
    let mut watch = server.watch().await?;
    gate.open()?;
    assert_eq!(started(&mut watch, "stays").await?, ["stays"]);
    assert_eq!(watch.state("leaves"), ModelState::Unloaded);
    Ok(())
}

#[hangar_tests::test]
async fn a_load_that_ends_early_makes_way() -> Result<()> {
    let (server, _gate) = busy().await?;
    queue(&server, "waits", false, 0).await?;
    let mut watch = server.watch().await?;
    server.client.unload("first").send().await?;
    watch.until("waits", ModelState::Ready).await?;
    Ok(())
}
