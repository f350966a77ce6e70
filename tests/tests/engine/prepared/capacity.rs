//! The cache has a size, and may have no room at all.

use std::fs;

use anyhow::Result;
use hangar_tests::info;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::PreparedServer;

#[hangar_tests::test]
async fn the_least_recently_used_entry_is_removed_for_a_new_one() -> Result<()> {
    let server =
        PreparedServer::with(|options| options.argument("--prepared-cache-size=3500kB")).await?;
    let models = [
        server.model("q8_0")?,
        server.model("q6k")?,
        server.model("q4k")?,
    ];
    server.first_turn(&models[0]).await?;
    server.first_turn(&models[1]).await?;
    assert!(server.turn(&models[0]).await?.0.prepared);
    let before = server.names()?;
    server.load(&models[2]).await?;
    // The second one was not used for longest.
    server
        .names_when(|names| names.len() == 2 && *names != before)
        .await?;
    server.client.unload("m").send().await?;
    let cache = info::cache_when(&server.client, |cache| cache.entries == 2).await?;
    assert!(cache.size_bytes <= 3_500_000, "{cache:?}");
    assert!(server.turn(&models[0]).await?.0.prepared);
    assert!(!server.turn(&models[1]).await?.0.prepared);
    Ok(())
}

#[hangar_tests::test]
async fn an_entry_larger_than_the_cache_is_not_written() -> Result<()> {
    let server =
        PreparedServer::with(|options| options.argument("--prepared-cache-size=100kB")).await?;
    let model = server.model("q4k")?;
    for misses in 1..=2 {
        let (metadata, _) = server.turn(&model).await?;
        assert!(!metadata.prepared);
        let cache = server.cache().await?;
        assert_eq!((cache.entries, cache.misses), (0, misses));
    }
    assert_eq!(server.names()?.len(), 0);
    Ok(())
}

#[hangar_tests::test]
async fn a_server_that_keeps_none_still_quantizes() -> Result<()> {
    let server =
        PreparedServer::with(|options| options.argument("--prepared-cache-size=0")).await?;
    let (metadata, _) = server.turn(&server.model("q4k")?).await?;
    assert_eq!(
        (metadata.prepared, metadata.quantization.as_str()),
        (false, "Q4K")
    );
    assert_eq!(server.client.info().send().await?.cache, None);
    assert!(!server.directory().exists());
    Ok(())
}

#[hangar_tests::test]
async fn a_directory_that_cannot_be_written_fails_no_load() -> Result<()> {
    let server = PreparedServer::new().await?;
    fs::remove_dir(server.directory())?;
    fs::write(server.directory(), "in the way")?;
    let model = server.model("q4k")?;
    let (metadata, first) = server.turn(&model).await?;
    assert!(!metadata.prepared);
    fs::remove_file(server.directory())?;
    fs::create_dir(server.directory())?;
    assert_eq!(server.first_turn(&model).await?, first);
    assert!(server.turn(&model).await?.0.prepared);
    Ok(())
}

#[hangar_tests::test]
async fn a_write_that_breaks_off_fails_no_load() -> Result<()> {
    let server = PreparedServer::new().await?;
    let process = i32::try_from(server.pid())?;
    // Workers inherit that no file may grow beyond it; prepared weights are larger, all else is not.
    let limit = |bytes| Rlimit {
        current: Some(bytes),
        maximum: None,
    };
    prlimit(Pid::from_raw(process), Resource::Fsize, limit(1 << 20))?;
    let model = server.model("q8_0")?;
    let (metadata, first) = server.turn(&model).await?;
    assert!(!metadata.prepared);
    server.load(&model).await?;
    assert!(server.log()?.contains("could not be written"));
    assert!(server.names()?.is_empty(), "{:?}", server.names());
    assert_eq!(server.answer().await?, first);
    Ok(())
}
