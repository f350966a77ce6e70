//! What a driver publishes of its model.

use tokio::time::Instant;

use crate::{
    model::{ProgressMeter, Status},
    status::Publisher,
};

/// What a driver publishes.
pub(super) struct PublishedStatus {
    pub(super) publisher: Publisher,
    pub(super) meter: ProgressMeter,
    /// When the model came into its state.
    pub(super) entered: Instant,
}

impl PublishedStatus {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            meter: ProgressMeter::new(),
            entered: Instant::now(),
        }
    }

    /// What is published next, as far as it is known.
    pub(super) fn upcoming(&self) -> &Status {
        self.publisher.upcoming()
    }

    /// To be changed before it is published.
    pub(super) fn edit(&mut self) -> &mut Status {
        self.publisher.edit()
    }
}
