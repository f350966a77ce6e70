//! Waits for the outcome of a switch, over disconnects and restarts of the server.
//!
//! Invariant: the outcome that is told is that of this switch. It comes from the watch, and wherever the
//! watch begins or has lost continuity, from GetInfo.

use std::time::Duration;

use super::outcome::outcome;
use crate::{
    client::Client,
    convert::to_duration,
    error::Error,
    v1::{GetInfoResponse, InfoView, ModelStatus, SwitchInfo, SwitchModelResponse, SwitchStrategy},
    watch::WatchEvent,
};

/// A switch that was begun. Made by [`Switch::start`](super::Switch::start).
#[derive(Clone, Debug)]
pub struct Switching {
    client: Client,
    alias: String,
    model_id: String,
    response: SwitchModelResponse,
    deadline: Duration,
}

/// Whether GetInfo has to be asked how the switch stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// No: the watch has told everything since.
    Current,
    /// The watch has just begun; a switch that is not listed is not listed yet.
    New,
    /// Continuity was lost; a switch that is not listed is forgotten.
    Reset,
}

impl Switching {
    pub(super) fn new(
        client: Client,
        alias: String,
        model_id: String,
        response: SwitchModelResponse,
        deadline: Duration,
    ) -> Self {
        Self {
            client,
            alias,
            model_id,
            response,
            deadline,
        }
    }

    /// Id of the switch, by which the watch, GetInfo and logs name it.
    pub fn id(&self) -> &str {
        &self.response.switch_id
    }

    /// Strategy that was chosen: the one that was asked for, or the server's choice where that was left to it.
    pub fn strategy(&self) -> SwitchStrategy {
        self.response.strategy()
    }

    /// How long it takes, from what is known. `None`: nothing is.
    pub fn estimated_time(&self) -> Option<Duration> {
        self.response.estimated_time.as_ref().map(to_duration)
    }

    /// The server's response as it came: of the switch when it began, not as it is now.
    pub fn response(&self) -> &SwitchModelResponse {
        &self.response
    }

    /// Waits until the alias points at the new model.
    ///
    /// # Errors
    ///
    /// [`Error::Switch`] when the switch was rolled back or that failed too; [`Error::OutcomeUnknown`]
    /// when the server does not remember it; [`Error::Deadline`]; [`Error::Refused`] where watching is
    /// not allowed. The switch goes on after the last two.
    pub async fn wait(self) -> Result<SwitchInfo, Error> {
        self.wait_with(|_| {}).await
    }

    /// As [`wait`](Self::wait), and tells `on_status` the new model's transitions and progress.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub async fn wait_with(self, on_status: impl FnMut(&ModelStatus)) -> Result<SwitchInfo, Error> {
        let deadline = self.deadline;
        match tokio::time::timeout(deadline, self.follow(on_status)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Deadline { deadline }),
        }
    }

    async fn follow(self, mut on_status: impl FnMut(&ModelStatus)) -> Result<SwitchInfo, Error> {
        let names = [&self.alias, &self.model_id];
        let mut watch = self.client.watch().models(names).stream();
        let mut target = self.model_id.clone();
        let mut knowledge = Knowledge::Current;
        while let Some(event) = watch.next().await {
            let mut reported = None;
            match event? {
                WatchEvent::Snapshot { models, reset } => {
                    knowledge = match reset {
                        true => Knowledge::Reset,
                        false => Knowledge::New,
                    };
                    models
                        .iter()
                        .filter(|m| m.model_id == target)
                        .for_each(&mut on_status);
                }
                WatchEvent::Transition { status, .. } | WatchEvent::Progress { status }
                    if status.model_id == target =>
                {
                    on_status(&status);
                }
                WatchEvent::Switched { switch, .. } if switch.switch_id == self.id() => {
                    reported = Some(*switch);
                }
                WatchEvent::Disconnected { .. } => continue,
                _ => {}
            }
            if reported.is_none() && knowledge != Knowledge::Current {
                reported = self.ask(&mut knowledge).await?;
            }
            if let Some(switch) = reported {
                // The model may have been named by an alias.
                target.clone_from(&switch.to_model_id);
                if let Some(result) = outcome(switch) {
                    return result;
                }
            }
        }
        Err(Error::Protocol("the watch ended without an error"))
    }

    /// Asks GetInfo how the switch stands. Leaves it for the next event where the server cannot be reached.
    async fn ask(&self, knowledge: &mut Knowledge) -> Result<Option<SwitchInfo>, Error> {
        let info = self.client.info().view(InfoView::Basic).send().await;
        let info = match info {
            Err(error) if error.is_transient() => return Ok(None),
            info => info?,
        };
        let was_reset = std::mem::replace(knowledge, Knowledge::Current) == Knowledge::Reset;
        self.find(info, was_reset)
    }

    fn find(&self, info: GetInfoResponse, was_reset: bool) -> Result<Option<SwitchInfo>, Error> {
        let of_alias = |switch: &SwitchInfo| switch.alias == self.alias;
        let unknown = |why| Error::OutcomeUnknown {
            what: format!("the switch of {} to {}", self.alias, self.model_id),
            why,
        };
        match info.switches.into_iter().find(of_alias) {
            Some(switch) if switch.switch_id == self.id() => Ok(Some(switch)),
            Some(_) if was_reset => Err(unknown("another switch of the alias came after it")),
            None if was_reset => Err(unknown("the server does not remember it")),
            _ => Ok(None),
        }
    }
}
