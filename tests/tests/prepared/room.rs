//! The cache has a size, and may have no room at all.

use std::fs;

use anyhow::Result;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::House;

#[tokio::test]
async fn the_entry_that_was_not_used_for_longest_makes_room() -> Result<()> {
    let house = House::with(|options| options.argument("--prepared-cache-size=3500kB")).await?;
    let models = [
        house.model("q8_0")?,
        house.model("q6k")?,
        house.model("q4k")?,
    ];
    house.first_turn(&models[0]).await?;
    house.first_turn(&models[1]).await?;
    assert!(house.turn(&models[0]).await?.0.prepared);
    let before = house.names()?;
    house.load(&models[2]).await?;
    // The second one was not used for longest.
    house
        .names_when(|names| names.len() == 2 && *names != before)
        .await?;
    house.client.unload("m").send().await?;
    let cache = house.cache_when(|cache| cache.entries == 2).await?;
    assert!(cache.size_bytes <= 3_500_000, "{cache:?}");
    assert!(house.turn(&models[0]).await?.0.prepared);
    assert!(!house.turn(&models[1]).await?.0.prepared);
    Ok(())
}

#[tokio::test]
async fn an_entry_larger_than_the_cache_is_not_written() -> Result<()> {
    let house = House::with(|options| options.argument("--prepared-cache-size=100kB")).await?;
    let model = house.model("q4k")?;
    for misses in 1..=2 {
        let (metadata, _) = house.turn(&model).await?;
        assert!(!metadata.prepared);
        let cache = house.cache().await?;
        assert_eq!((cache.entries, cache.misses), (0, misses));
    }
    assert_eq!(house.names()?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_server_that_keeps_none_still_quantizes() -> Result<()> {
    let house = House::with(|options| options.argument("--prepared-cache-size=0")).await?;
    let (metadata, _) = house.turn(&house.model("q4k")?).await?;
    assert_eq!(
        (metadata.prepared, metadata.quantization.as_str()),
        (false, "Q4K")
    );
    assert_eq!(house.client.info().send().await?.cache, None);
    assert!(!house.directory().exists());
    Ok(())
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_fails_no_load() -> Result<()> {
    let house = House::new().await?;
    fs::remove_dir(house.directory())?;
    fs::write(house.directory(), "in the way")?;
    let model = house.model("q4k")?;
    let (metadata, first) = house.turn(&model).await?;
    assert!(!metadata.prepared);
    fs::remove_file(house.directory())?;
    fs::create_dir(house.directory())?;
    assert_eq!(house.first_turn(&model).await?, first);
    assert!(house.turn(&model).await?.0.prepared);
    Ok(())
}

#[tokio::test]
async fn a_write_that_breaks_off_fails_no_load() -> Result<()> {
    let house = House::new().await?;
    let server = i32::try_from(house.hangar.pid())?;
    // Workers inherit that no file may grow beyond it; prepared weights are larger, all else is not.
    let limit = |bytes| Rlimit {
        current: Some(bytes),
        maximum: None,
    };
    prlimit(Pid::from_raw(server), Resource::Fsize, limit(1 << 20))?;
    let model = house.model("q8_0")?;
    let (metadata, first) = house.turn(&model).await?;
    assert!(!metadata.prepared);
    house.load(&model).await?;
    assert!(house.hangar.log()?.contains("could not be written"));
    assert!(house.names()?.is_empty(), "{:?}", house.names());
    assert_eq!(house.answer().await?, first);
    Ok(())
}
