//! Entries that are damaged, stale, of something else or half-written are ignored and replaced.

use std::{
    fs::{self, File, FileTimes},
    path::Path,
};

use anyhow::Result;

use crate::House;

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
async fn assert_replaced(house: &House, first: &[u32]) -> Result<()> {
    let model = house.model("q4k")?;
    let before = house.cache().await?;
    house.load(&model).await?;
    assert!(!house.metadata().await?.prepared);
    assert_eq!(house.answer().await?, first);
    // What was there went before the load began to write.
    house.names_when(|names| names.len() == 1).await?;
    house.client.unload("m").send().await?;
    let after = house.cache().await?;
    assert_eq!((after.hits, after.misses), (before.hits, before.misses + 1));
    let (metadata, answer) = house.turn(&model).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, first);
    Ok(())
}

#[tokio::test]
async fn a_changed_byte_is_found_at_the_first_use_after_a_start() -> Result<()> {
    let house = House::new().await?;
    let first = house.first_turn(&house.model("q4k")?).await?;
    let house = house.restarted().await?;
    flip(&house.entry()?.join(WEIGHTS))?;
    assert_replaced(&house, &first).await
}

#[tokio::test]
async fn a_file_that_was_cut_off_is_found_at_once() -> Result<()> {
    let house = House::new().await?;
    let first = house.first_turn(&house.model("q4k")?).await?;
    let file = File::options()
        .write(true)
        .open(house.entry()?.join(WEIGHTS))?;
    file.set_len(file.metadata()?.len() - 1)?;
    assert_replaced(&house, &first).await
}

#[tokio::test]
async fn an_entry_under_a_foreign_name_is_not_used() -> Result<()> {
    let house = House::new().await?;
    let first = house.first_turn(&house.model("q4k")?).await?;
    let q4k = house.entry()?;
    house.first_turn(&house.model("q8_0")?).await?;
    let names = house.names()?;
    let q8 = names.iter().map(|name| house.directory().join(name));
    let q8 = q8.into_iter().find(|path| *path != q4k);
    fs::remove_dir_all(&q4k)?;
    fs::rename(q8.unwrap_or_default(), &q4k)?;
    assert_replaced(&house, &first).await
}

#[tokio::test]
async fn an_entry_without_a_sound_manifest_is_not_used() -> Result<()> {
    let house = House::new().await?;
    let first = house.first_turn(&house.model("q4k")?).await?;
    let manifest = house.entry()?.join("manifest.json");
    for content in ["", "{", "[]", "{\"format\":1}"] {
        fs::write(&manifest, content)?;
        assert_replaced(&house, &first).await?;
    }
    Ok(())
}

#[tokio::test]
async fn changed_weights_are_prepared_anew() -> Result<()> {
    let house = House::new().await?;
    let model = house.model("q4k")?;
    let first = house.first_turn(&model).await?;
    let weights = house.fixtures.wide_llama()?.join("model.safetensors");
    let mut bytes = fs::read(&weights)?;
    let end = bytes.len();
    // Of the last tensor, in f32: other signs are other weights.
    for sign in bytes[end - 4000..].iter_mut().skip(3).step_by(4) {
        *sign ^= 0x80;
    }
    fs::write(&weights, bytes)?;
    let changed = house.first_turn(&model).await?;
    let (metadata, answer) = house.turn(&model).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, changed);
    assert_eq!(house.names()?.len(), 2);
    assert_eq!(first.len(), changed.len());
    Ok(())
}

#[tokio::test]
async fn what_killed_workers_left_goes_when_the_server_starts() -> Result<()> {
    let house = House::new().await?;
    let model = house.model("q4k")?;
    house.first_turn(&model).await?;
    let entry = house.entry()?;
    let half = entry.with_extension("partial-1");
    fs::create_dir(&half)?;
    fs::copy(entry.join(WEIGHTS), half.join(WEIGHTS))?;
    let house = house.restarted().await?;
    assert_eq!(house.entry()?, entry);
    assert!(house.turn(&model).await?.0.prepared);
    Ok(())
}
