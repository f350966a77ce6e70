//! Calls that are under way while a test does something else.

use anyhow::{Context, Result};
use tokio::{task::JoinSet, time::timeout};

use crate::server::DEADLINE;

/// A call that is under way. Dropping it is as if its caller went away.
#[derive(Debug)]
pub struct Background<T>(JoinSet<T>);

impl<T: Send + 'static> Background<T> {
    /// Begins a call.
    pub fn start(call: impl Future<Output = T> + Send + 'static) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(call);
        Self(tasks)
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end within [`DEADLINE`], or panics.
    pub async fn end(mut self) -> Result<T> {
        let end = timeout(DEADLINE, self.0.join_next()).await;
        let end = end.context("the call does not end")?;
        Ok(end.context("there is no call")??)
    }
}
