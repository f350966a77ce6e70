//! Faults of the server to order: see `server/src/failpoint.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{processes::eventually, server::DEADLINE};

/// Orders for one server, which has to be started with [`crate::server::TestServerBuilder::failpoints`].
#[derive(Debug)]
pub struct Failpoints(tempfile::TempDir);

/// A task that is blocked for as long as this exists.
#[derive(Debug)]
pub struct Blocked(PathBuf);

impl Failpoints {
    /// No orders yet.
    ///
    /// # Errors
    ///
    /// When there is no directory for them.
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// Where the orders are, as `HANGAR_FAILPOINTS` names it.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The next task that comes by `point` panics.
    ///
    /// # Errors
    ///
    /// When the order cannot be written.
    pub fn panic(&self, point: &str) -> Result<()> {
        self.order(point, "panic").map(|_| ())
    }

    /// The next look at `point` finds that there is next to nothing left of what is looked for.
    ///
    /// # Errors
    ///
    /// When the order cannot be written.
    pub fn run_short(&self, point: &str) -> Result<()> {
        self.order(point, "short").map(|_| ())
    }

    /// Whoever comes by `point` blocks there.
    ///
    /// # Errors
    ///
    /// When the order cannot be written.
    pub fn block(&self, point: &str) -> Result<Blocked> {
        self.order(point, "block").map(Blocked)
    }

    /// Whoever comes by `point`, where tasks can be held up, waits there and keeps its thread for others.
    ///
    /// # Errors
    ///
    /// When the order cannot be written.
    pub fn hold(&self, point: &str) -> Result<Blocked> {
        self.order(point, "hold").map(Blocked)
    }

    /// An order is there as a whole or not at all.
    fn order(&self, point: &str, what: &str) -> Result<PathBuf> {
        let order = self.0.path().join(point);
        let draft = self.0.path().join(format!("draft of {point}"));
        fs::write(&draft, what)?;
        fs::rename(&draft, &order)?;
        Ok(order)
    }
}

impl Blocked {
    /// Waits until a task is blocked.
    ///
    /// # Errors
    ///
    /// When none comes by in time.
    pub async fn reached(&self) -> Result<()> {
        let mark = format!("{}.reached", self.0.display());
        eventually("a task comes by the failpoint", DEADLINE, || {
            Path::new(&mark).exists().then_some(())
        })
        .await
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Gone already only with the whole directory.
        let _ = fs::remove_file(&self.0);
    }
}
