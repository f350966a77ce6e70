//! Files that the server refuses, with words, and leaves as they are.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;

/// The data directory of a server that has ended, with the model `m`.
struct StoppedServerFiles {
    fixtures: Fixtures,
    directory: tempfile::TempDir,
}

impl StoppedServerFiles {
    async fn new() -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let directory = tempfile::tempdir()?;
        let left = Self {
            fixtures,
            directory,
        };
        let server = left.options().start().await?;
        create(&mut catalog(&server).await?, "m").await?;
        server.terminate().await?;
        Ok(left)
    }

    fn options(&self) -> TestServerBuilder {
        TestServer::scripted()
            .fixtures(&self.fixtures)
            .data_in(self.directory.path())
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("catalog.db")
    }

    /// What a server says that refuses the directory, which has to leave the catalog as it is.
    async fn refused(&self) -> Result<String> {
        let before = fs::read(self.path())?;
        let started = self.options().start().await;
        let error = started.err().context("the server started")?;
        assert!(fs::read(self.path())? == before, "the file was changed");
        let text = format!("{error:#}");
        assert!(!text.contains("panicked"), "{text}");
        Ok(text)
    }
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} not in {text:?}");
    }
}

#[hangar_tests::test]
async fn a_corrupt_catalog_is_refused() -> Result<()> {
    let left = StoppedServerFiles::new().await?;
    let whole = fs::read(left.path())?;
    let mut damaged = whole.clone();
    damaged[5000..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    for corrupt in [damaged, b"not a database".repeat(1000)] {
        fs::write(left.path(), corrupt)?;
        let path = left.path().display().to_string();
        let parts = [&*path, "cannot be used", "Restore it from a backup"];
        assert_says(&left.refused().await?, &parts);
    }
    // Mended, it serves again.
    fs::write(left.path(), whole)?;
    let server = left.options().start().await?;
    get(&mut catalog(&server).await?, "m").await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_catalog_of_a_newer_server_is_refused() -> Result<()> {
    let left = StoppedServerFiles::new().await?;
    let mut newer = fs::read(left.path())?;
    // The user version, in the header.
    newer[60..64].copy_from_slice(&1000_u32.to_be_bytes());
    fs::write(left.path(), newer)?;
    let parts = [
        "is of version 1000",
        "a newer hangar",
        "nothing was changed",
    ];
    assert_says(&left.refused().await?, &parts);
    Ok(())
}

#[hangar_tests::test]
async fn a_catalog_that_cannot_be_written_is_refused() -> Result<()> {
    let left = StoppedServerFiles::new().await?;
    fs::set_permissions(left.path(), fs::Permissions::from_mode(0o444))?;
    // Permissions do not bind the superuser, unless a server that this thread starts never is one.
    let capability = rustix::thread::CapabilitySet::DAC_OVERRIDE;
    let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    let parts = ["cannot be written", "writable"];
    assert_says(&left.refused().await?, &parts);
    Ok(())
}

#[hangar_tests::test]
async fn of_two_servers_on_one_directory_the_second_refuses() -> Result<()> {
    let left = StoppedServerFiles::new().await?;
    let first = left.options().start().await?;
    let second = left.options().start().await;
    let error = second.err().context("the second server started")?;
    assert_says(&format!("{error:#}"), &["in use by another hangar"]);
    create(&mut catalog(&first).await?, "n").await?;
    // It is free as soon as the first is gone, however that went.
    first.kill()?;
    let third = left.options().start().await?;
    get(&mut catalog(&third).await?, "n").await?;
    Ok(())
}
