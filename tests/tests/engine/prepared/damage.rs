//! Entries that are damaged, stale, of something else or half-written are ignored and replaced.

use std::{
    fs::{self, File, FileTimes},
    path::Path,
};

use anyhow::Result;

use super::PreparedServer;

const WEIGHTS: &str = "weights-0.uqff";

/// Changes a byte in the middle of a file, and leaves its time as it was.
fn flip(path: &Path) -> Result<()> {
    let before = fs::metadata(path)?;
    let mut bytes = fs::read(path)?;
    // Beside the blocks that are looked at each time.
    let place = bytes.len() / 6;
    bytes[place] ^= 1;
    fs::write(path, bytes)?;
    let times = FileTimes::new().set_modified(before.modified()?);
    File::options().write(true).open(path)?.set_times(times)?;
    Ok(())
}

/// Loads the model after its entry was changed: as if there were none; and then there is one.
async fn assert_replaced(server: &PreparedServer, first: &[u32]) -> Result<()> {
    let model = server.model("q4k")?;
    let before = server.cache().await?;
    server.load(&model).await?;
    assert!(!server.metadata().await?.prepared);
    assert_eq!(server.answer().await?, first);
    // What was there went before the load began to write.
    server.names_when(|names| names.len() == 1).await?;
    server.client.unload("m").send().await?;
    let after = server.cache().await?;
    assert_eq!((after.hits, after.misses), (before.hits, before.misses + 1));
    let (metadata, answer) = server.turn(&model).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, first);
    Ok(())
}

#[hangar_tests::test]
async fn a_changed_byte_is_found_at_the_first_use_after_a_start() -> Result<()> {
    let server = PreparedServer::new().await?;
    let first = server.first_turn(&server.model("q4k")?).await?;
    let server = server.restarted().await?;
    flip(&server.entry()?.join(WEIGHTS))?;
    assert_replaced(&server, &first).await
}

#[hangar_tests::test]
async fn a_file_that_was_cut_off_is_found_at_once() -> Result<()> {
    let server = PreparedServer::new().await?;
    let first = server.first_turn(&server.model("q4k")?).await?;
    let file = File::options()
        .write(true)
        .open(server.entry()?.join(WEIGHTS))?;
    file.set_len(file.metadata()?.len() - 1)?;
    assert_replaced(&server, &first).await
}

#[hangar_tests::test]
async fn an_entry_under_a_foreign_name_is_not_used() -> Result<()> {
    let server = PreparedServer::new().await?;
    let first = server.first_turn(&server.model("q4k")?).await?;
    let q4k = server.entry()?;
    server.first_turn(&server.model("q8_0")?).await?;
    let names = server.names()?;
    let q8 = names.iter().map(|name| server.directory().join(name));
    let q8 = q8.into_iter().find(|path| *path != q4k);
    fs::remove_dir_all(&q4k)?;
    fs::rename(q8.unwrap_or_default(), &q4k)?;
    assert_replaced(&server, &first).await
}

#[hangar_tests::test]
async fn an_entry_without_a_sound_manifest_is_not_used() -> Result<()> {
    let server = PreparedServer::new().await?;
    let first = server.first_turn(&server.model("q4k")?).await?;
    let manifest = server.entry()?.join("manifest.json");
    for content in ["", "{", "[]", "{\"format\":1}"] {
        fs::write(&manifest, content)?;
        assert_replaced(&server, &first).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn changed_weights_are_prepared_anew() -> Result<()> {
    let server = PreparedServer::new().await?;
    let model = server.model("q4k")?;
    let first = server.first_turn(&model).await?;
    let weights = server.fixtures.wide_llama()?.join("model.safetensors");
    let mut bytes = fs::read(&weights)?;
    let end = bytes.len();
    // Of the last tensor, in f32: other signs are other weights.
    for sign in bytes[end - 4000..].iter_mut().skip(3).step_by(4) {
        *sign ^= 0x80;
    }
    fs::write(&weights, bytes)?;
    let changed = server.first_turn(&model).await?;
    let (metadata, answer) = server.turn(&model).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, changed);
    assert_eq!(server.names()?.len(), 2);
    assert_eq!(first.len(), changed.len());
    Ok(())
}

#[hangar_tests::test]
async fn leftovers_of_killed_workers_are_removed_at_the_start() -> Result<()> {
    let server = PreparedServer::new().await?;
    let model = server.model("q4k")?;
    server.first_turn(&model).await?;
    let entry = server.entry()?;
    let half = entry.with_extension("partial-1");
    fs::create_dir(&half)?;
    fs::copy(entry.join(WEIGHTS), half.join(WEIGHTS))?;
    let server = server.restarted().await?;
    assert_eq!(server.entry()?, entry);
    assert!(server.turn(&model).await?.0.prepared);
    Ok(())
}
