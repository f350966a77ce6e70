//! Which of the models that wait for a place among the loads is next.

use anyhow::Result;
use hangar_client::v1::{ModelSpec, ModelState};
use hangar_tests::{
    feed::{Feed, News},
    fixtures::Fixtures,
    hangar::Options,
    house::House,
    scripted::{Gate, Script},
};

/// A server that loads one model at a time, and a model in its load that takes the place until the gate is
/// opened.
async fn busy() -> Result<(House, Gate)> {
    let fixtures = Fixtures::new()?;
    let options = Options::scripted(&fixtures)
        .argument("--max-concurrent-loads")
        .argument("1");
    let house = House::open(fixtures, options).await?;
    let (path, spec) = house.script("first", &Script::gated())?;
    let gate = Gate::new(&path, "load")?;
    let mut feed = house.feed().await?;
    house.client.load("first").spec(spec).send().await?;
    feed.until("first", ModelState::Loading).await?;
    Ok((house, gate))
}

async fn queue(house: &House, model_id: &str, required: bool, priority: i32) -> Result<()> {
    let (_, spec) = house.script(model_id, &Script::default())?;
    let spec = ModelSpec {
        required,
        priority,
        ..spec
    };
    let load = house.client.load(model_id).spec(spec).send().await?;
    let status = load.status.unwrap_or_default();
    assert_eq!(status.state(), ModelState::Pending, "{model_id}");
    Ok(())
}

/// The models in the order in which they start, until this one is READY.
async fn started(feed: &mut Feed, last: &str) -> Result<Vec<String>> {
    let mut started = Vec::new();
    while feed.state(last) != ModelState::Ready {
        if let News::State(model, ModelState::Starting) = feed.next().await? {
            started.push(model);
        }
    }
    Ok(started)
}

#[tokio::test]
async fn required_models_go_first_then_by_priority_then_by_arrival() -> Result<()> {
    let (house, gate) = busy().await?;
    queue(&house, "low", false, -1).await?;
    queue(&house, "second", false, 5).await?;
    queue(&house, "third", false, 5).await?;
    queue(&house, "required-low", true, -9).await?;
    queue(&house, "required-high", true, 9).await?;
    queue(&house, "usual", false, 0).await?;
    let mut feed = house.feed().await?;
    gate.open()?;
    assert_eq!(
        started(&mut feed, "low").await?,
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

#[tokio::test]
async fn who_leaves_the_queue_holds_nobody_up() -> Result<()> {
    let (house, gate) = busy().await?;
    queue(&house, "leaves", false, 9).await?;
    queue(&house, "stays", false, 0).await?;
    house.client.unload("leaves").send().await?;
    let mut feed = house.feed().await?;
    gate.open()?;
    assert_eq!(started(&mut feed, "stays").await?, ["stays"]);
    assert_eq!(feed.state("leaves"), ModelState::Unloaded);
    Ok(())
}

#[tokio::test]
async fn a_load_that_ends_early_makes_way() -> Result<()> {
    let (house, _gate) = busy().await?;
    queue(&house, "waits", false, 0).await?;
    let mut feed = house.feed().await?;
    house.client.unload("first").send().await?;
    feed.until("waits", ModelState::Ready).await?;
    Ok(())
}
