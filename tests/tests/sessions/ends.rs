//! Sessions that end while something is under way, and servers that end before their sessions.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState};
use hangar_tests::{
    background::Background,
    fixtures::Fixtures,
    hangar::{DEADLINE, Options},
    house::House,
    processes,
    refusals::refusal,
    scripted::{Gate, Script},
    stubs::load_for,
};
use tokio::time::timeout;
use tonic::Code;

use crate::{load, session};

#[tokio::test]
async fn closing_ends_a_load_that_is_under_way() -> Result<()> {
    let house = House::scripted().await?;
    let (path, spec) = house.script("m", &Script::gated())?;
    let _gate = Gate::new(&path, "load")?;
    let held = session(&house).await?;
    let mut feed = house.feed().await?;
    let stubs = house.stubs.clone();
    let request = load_for(&held, "m", spec);
    let loading = Background::start(async move { stubs.load(request).await });
    feed.until("m", ModelState::Loading).await?;
    assert_eq!(house.stubs.close(&held.session_id).await?, ["m"]);
    let refused = loading.end().await?;
    refusal(refused, Code::Aborted, ErrorReason::LoadCancelled);
    feed.until("m", ModelState::Unloaded).await?;
    assert!(processes::children(house.hangar.pid())?.is_empty());
    Ok(())
}

/// Both calls are sent at once, so that the end of the session comes before, while and after the model's
/// driver hears of the load.
#[tokio::test]
async fn a_load_that_races_with_the_end_of_its_session_leaves_nothing_loaded() -> Result<()> {
    let house = House::scripted().await?;
    let (_, spec) = house.script("m", &Script::default())?;
    for _ in 0..30 {
        let held = session(&house).await?;
        let request = load_for(&held, "m", spec.clone());
        let (loaded, closed) = tokio::join!(
            house.stubs.load(request),
            house.stubs.close(&held.session_id)
        );
        closed?;
        let refused = loaded.err().and_then(|error| error.reason());
        let expected = [ErrorReason::SessionNotFound, ErrorReason::LoadCancelled];
        assert!(
            refused.is_none_or(|reason| expected.contains(&reason)),
            "{refused:?}"
        );
        timeout(DEADLINE, until_unloaded(&house)).await?;
    }
    assert!(processes::children(house.hangar.pid())?.is_empty());
    Ok(())
}

/// Asks until the model is not loaded, or not even registered. A watch would not tell that nothing more comes.
async fn until_unloaded(house: &House) {
    while let Ok(info) = house.stubs.info("m").await {
        assert!(info.holders.is_empty());
        if info.status.unwrap_or_default().state() == ModelState::Unloaded {
            break;
        }
    }
}

#[tokio::test]
async fn sessions_end_with_the_server_and_leave_nothing_to_load() -> Result<()> {
    let data = tempfile::tempdir()?;
    let fixtures = Fixtures::new()?;
    let options = Options::new(&fixtures).data_in(data.path());
    let house = House::open(fixtures, options.clone()).await?;
    let held = session(&house).await?;
    load(&house, &held, "held", house.llama_spec()?).await?;
    house.qwen("asked-for").await?;
    let answer = house.answer("asked-for").await?;

    let house = house.after_a_kill(options).await?;
    let mut feed = house.feed().await?;
    feed.until("asked-for", ModelState::Ready).await?;
    assert_eq!(house.answer("asked-for").await?, answer);
    let info = house.stubs.info("held").await?;
    assert_eq!(
        info.status.context("a status")?.state(),
        ModelState::Unloaded
    );
    assert!(info.holders.is_empty());
    assert!(!house.stubs.is_desired("held").await?);
    assert_eq!(processes::children(house.hangar.pid())?.len(), 1);
    let gone = house.stubs.session(&held.session_id).await;
    refusal(gone, Code::NotFound, ErrorReason::SessionNotFound);
    Ok(())
}
