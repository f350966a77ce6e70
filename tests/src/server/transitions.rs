//! What a model goes through, as a watcher sees it.

use anyhow::{Context, Result};
use hangar_client::{
    Watch, WatchEvent,
    v1::{ModelState, ModelStatus},
};
use tokio::time::timeout;

use super::DEADLINE;

/// The transitions of one model, in order. Progress is left out.
pub struct Transitions {
    watch: Watch,
    current: Option<ModelStatus>,
}

impl Transitions {
    pub(super) fn new(watch: Watch, mut snapshot: impl Iterator<Item = ModelStatus>) -> Self {
        Self {
            watch,
            current: snapshot.next(),
        }
    }

    /// The status after the last transition; nothing for a model that is not known yet.
    pub fn current(&self) -> Option<&ModelStatus> {
        self.current.as_ref()
    }

    /// Waits for the next transition.
    ///
    /// # Errors
    ///
    /// When none comes within [`DEADLINE`], or continuity is lost.
    pub async fn next(&mut self) -> Result<ModelStatus> {
        let next = timeout(DEADLINE, self.next_transition()).await;
        let status = next.with_context(|| format!("no transition after {:?}", self.current))??;
        self.current = Some(status.clone());
        Ok(status)
    }

    /// Waits until the model is in this state; it may be already.
    ///
    /// # Errors
    ///
    /// As [`Self::next`]; also when the model becomes FAILED instead.
    pub async fn until(&mut self, state: ModelState) -> Result<ModelStatus> {
        if let Some(status) = self
            .current
            .as_ref()
            .filter(|status| status.state() == state)
        {
            return Ok(status.clone());
        }
        loop {
            let status = self.next().await?;
            if status.state() == state {
                return Ok(status);
            }
            anyhow::ensure!(
                status.state() != ModelState::Failed,
                "the model failed: {status:?}"
            );
        }
    }

    /// The states that the model goes through from here up to this one, which is included.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub async fn states_to(&mut self, state: ModelState) -> Result<Vec<ModelState>> {
        let mut states = Vec::new();
        while states.last() != Some(&state) {
            states.push(self.next().await?.state());
        }
        Ok(states)
    }

    async fn next_transition(&mut self) -> Result<ModelStatus> {
        loop {
            match self.watch.next().await.context("the watch ended")?? {
                WatchEvent::Transition { status, .. } => return Ok(status),
                WatchEvent::Snapshot { .. } => anyhow::bail!("the watch lost continuity"),
                _ => {}
            }
        }
    }
}
