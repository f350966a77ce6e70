//! The one writer of a status.

use std::{sync::Arc, time::SystemTime};

use super::{cell::StatusCell, event_log::EventLog};
use crate::model::{StateKind, Status};

/// Publishes the status of one model. Its driver has the only one.
#[derive(Debug)]
pub struct Publisher {
    event_log: Arc<EventLog>,
    cell: StatusCell,
    /// What is published next.
    upcoming: Status,
}

impl Publisher {
    /// The one that publishes the status of a model to `event_log` from now on, which goes on with its generation; of one that
    /// is not known it is `status`.
    pub fn new(event_log: Arc<EventLog>, status: Status) -> Self {
        let cell = event_log.cell_to_publish(status);
        let upcoming = Status::clone(&cell.load());
        Self {
            event_log,
            cell,
            upcoming,
        }
    }

    /// What others read.
    pub fn cell(&self) -> &StatusCell {
        &self.cell
    }

    /// What is published next, as far as it is known.
    pub fn upcoming(&self) -> &Status {
        &self.upcoming
    }

    /// To be changed before it is published.
    pub fn edit(&mut self) -> &mut Status {
        &mut self.upcoming
    }

    /// The model came into `state` at the time `now`: a new generation.
    pub fn transition(&mut self, state: StateKind, now: SystemTime) {
        self.upcoming.state = state;
        self.upcoming.generation = self.upcoming.generation.next();
        self.upcoming.since = now;
        self.event_log.transition(self.upcoming.clone());
    }

    /// The load went on, which is no transition.
    pub fn progress(&self) {
        self.event_log.progress(self.upcoming.clone());
    }

    /// Figures changed that watchers are not sent, such as memory.
    pub fn update_silently(&self) {
        self.event_log.update_silently(self.upcoming.clone());
    }
}
