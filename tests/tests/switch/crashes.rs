//! Servers that end before a switch does: it has never happened.

use anyhow::Result;
use hangar_client::v1::{ModelState, SwitchModelRequest, SwitchOutcome, SwitchStrategy};
use hangar_tests::{
    fixtures::Fixtures,
    hangar::Options,
    house::House,
    processes,
    scripted::{Gate, Script},
    stubs::switch,
};
use rstest::rstest;
use tempfile::TempDir;

use crate::{ALIAS, carried_out, last, point, state, target};

/// How a server ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    Terminate,
}

/// A server whose data outlives it, and the alias, which stands for "old".
struct Mortal {
    house: House,
    options: Options,
    _data: TempDir,
}

impl Mortal {
    async fn born() -> Result<Self> {
        let data = tempfile::tempdir()?;
        let fixtures = Fixtures::new()?;
        let options = Options::scripted(&fixtures).data_in(data.path());
        let house = House::open(fixtures, options.clone()).await?;
        let (_, old) = house.script("old", &Script::default())?;
        house.load("old", old).await?;
        let mut feed = house.feed().await?;
        point(&house, &mut feed, "old").await?;
        Ok(Self {
            house,
            options,
            _data: data,
        })
    }

    async fn reborn(self, end: End) -> Result<Self> {
        let House {
            hangar, fixtures, ..
        } = self.house;
        match end {
            End::Kill => drop(hangar.kill()?),
            End::Terminate => assert!(hangar.terminate().await?.success()),
        }
        Ok(Self {
            house: House::open(fixtures, self.options.clone()).await?,
            ..self
        })
    }
}

#[rstest]
#[tokio::test]
async fn a_switch_that_the_servers_end_interrupts_has_never_happened(
    #[values(End::Kill, End::Terminate)] end: End,
    #[values(SwitchStrategy::LoadFirst, SwitchStrategy::UnloadFirst)] strategy: SwitchStrategy,
) -> Result<()> {
    let mortal = Mortal::born().await?;
    let house = &mortal.house;
    let (path, new) = house.script("new", &Script::gated())?;
    let gate = Gate::new(&path, "load")?;
    let mut feed = house.feed().await?;
    let request = SwitchModelRequest {
        spec: Some(new),
        ..switch(ALIAS, "new", strategy)
    };
    let begun = house.stubs.switch(request.clone()).await?;
    feed.until("new", ModelState::Loading).await?;

    let mortal = mortal.reborn(end).await?;
    let house = &mortal.house;
    let mut feed = house.feed().await?;
    feed.until("old", ModelState::Ready).await?;
    let ended = last(house).await?;
    assert_eq!(ended.switch_id, begun.switch_id);
    assert_eq!(ended.outcome(), SwitchOutcome::RolledBack);
    assert_eq!(ended.reason, "SHUTTING_DOWN");
    assert!(ended.end_time.is_some());
    assert_eq!(target(house).await?, "old");
    house.answer(ALIAS).await?;
    assert!(house.stubs.is_desired("old").await?);
    assert!(!house.stubs.is_desired("new").await?);
    assert_eq!(state(house, "new").await?, ModelState::Unloaded);
    assert_eq!(processes::children(house.hangar.pid())?.len(), 1);

    gate.open()?;
    let ended = carried_out(house, &mut feed, request).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    assert_eq!(target(house).await?, "new");
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_switch_that_has_ended_is_remembered(
    #[values(End::Kill, End::Terminate)] end: End,
) -> Result<()> {
    let mortal = Mortal::born().await?;
    let house = &mortal.house;
    let (_, new) = house.script("new", &Script::default())?;
    let mut feed = house.feed().await?;
    let request = SwitchModelRequest {
        spec: Some(new),
        ..switch(ALIAS, "new", SwitchStrategy::LoadFirst)
    };
    let ended = carried_out(house, &mut feed, request).await?;
    let mortal = mortal.reborn(end).await?;
    let house = &mortal.house;
    let mut feed = house.feed().await?;
    feed.until("new", ModelState::Ready).await?;
    assert_eq!(last(house).await?, ended);
    assert_eq!(target(house).await?, "new");
    assert_eq!(house.stubs.info("new").await?.aliases, [ALIAS]);
    assert_eq!(state(house, "old").await?, ModelState::Unloaded);
    assert!(!house.stubs.is_desired("old").await?);
    Ok(())
}
