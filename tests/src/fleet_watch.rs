//! Everything that a server reports to its watchers, in order.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use hangar_client::{
    Client, Watch, WatchEvent,
    v1::{ChangeKind, ModelState, ModelStatus, SwitchInfo, SwitchOutcome},
};
use tokio::time::timeout;

use crate::server::DEADLINE;

/// A watch of all models. Progress and heartbeats are left out.
pub struct FleetWatch {
    watch: Watch,
    states: BTreeMap<String, ModelStatus>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetEvent {
    /// A model came into a state.
    State(String, ModelState),
    /// A model has these aliases now.
    Aliases(String, Vec<String>),
    /// A switch began or ended.
    Switch(Box<SwitchInfo>),
    /// Anything else.
    Other,
}

impl FleetWatch {
    /// Watches from now on.
    ///
    /// # Errors
    ///
    /// When the watch cannot be opened.
    pub async fn open(client: &Client) -> Result<Self> {
        let mut watch = client.watch().stream();
        let first = timeout(DEADLINE, watch.next()).await?;
        match first.context("the watch ended")?? {
            WatchEvent::Snapshot { models, .. } => Ok(Self {
                watch,
                states: models
                    .into_iter()
                    .map(|status| (status.model_id.clone(), status))
                    .collect(),
            }),
            event => anyhow::bail!("the watch began with {event:?}"),
        }
    }

    /// Waits for what happens next.
    ///
    /// # Errors
    ///
    /// When nothing happens within [`DEADLINE`], or continuity is lost.
    pub async fn next(&mut self) -> Result<FleetEvent> {
        let next = timeout(DEADLINE, self.next_event()).await;
        next.with_context(|| format!("nothing happens after {:?}", self.states))?
    }

    /// Where a model stood when the last event came.
    pub fn state(&self, model_id: &str) -> ModelState {
        let status = self.states.get(model_id);
        status.map_or(ModelState::Unspecified, ModelStatus::state)
    }

    /// Waits until a model is in this state; it may be already.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub async fn until(&mut self, model_id: &str, state: ModelState) -> Result<ModelStatus> {
        while self.state(model_id) != state {
            self.next().await?;
        }
        let status = self.states.get(model_id);
        status.cloned().context("a status")
    }

    /// Waits until this switch has ended.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub async fn ended(&mut self, switch_id: &str) -> Result<SwitchInfo> {
        loop {
            if let FleetEvent::Switch(switch) = self.next().await?
                && switch.switch_id == switch_id
                && switch.outcome() != SwitchOutcome::Unspecified
            {
                return Ok(*switch);
            }
        }
    }

    /// What happens up to the end of this switch, which is included.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub async fn events_to_end_of(&mut self, switch_id: &str) -> Result<Vec<FleetEvent>> {
        let mut all = Vec::new();
        loop {
            let event = self.next().await?;
            all.push(event.clone());
            if let FleetEvent::Switch(switch) = event
                && switch.switch_id == switch_id
                && switch.outcome() != SwitchOutcome::Unspecified
            {
                return Ok(all);
            }
        }
    }

    async fn next_event(&mut self) -> Result<FleetEvent> {
        loop {
            match self.watch.next().await.context("the watch ended")?? {
                WatchEvent::Transition { status, .. } => {
                    let event = FleetEvent::State(status.model_id.clone(), status.state());
                    self.states.insert(status.model_id.clone(), status);
                    return Ok(event);
                }
                WatchEvent::Switched { switch, .. } => return Ok(FleetEvent::Switch(switch)),
                WatchEvent::Changed(changed) if changed.kind() == ChangeKind::Aliases => {
                    let status = changed.status.unwrap_or_default();
                    return Ok(FleetEvent::Aliases(status.model_id, changed.aliases));
                }
                WatchEvent::Snapshot { .. } | WatchEvent::Disconnected { .. } => {
                    anyhow::bail!("the watch lost continuity")
                }
                WatchEvent::Progress { .. } | WatchEvent::Heartbeat { .. } => {}
                _ => return Ok(FleetEvent::Other),
            }
        }
    }
}
