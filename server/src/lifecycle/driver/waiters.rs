//! Those who wait for what a driver does.

use tokio::sync::oneshot;

use crate::{
    lifecycle::command::UnloadReport,
    model::{Failure, LoadId, Status},
};

/// Those who wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) loads: Vec<(LoadId, oneshot::Sender<Result<Status, Failure>>)>,
    pub(super) unloads: Vec<oneshot::Sender<UnloadReport>>,
}

impl Waiters {
    pub(super) fn is_unload_awaited(&self) -> bool {
        self.unloads.iter().any(|waiter| !waiter.is_closed())
    }

    pub(super) fn wait_for_load(
        &mut self,
        load_id: LoadId,
    ) -> oneshot::Receiver<Result<Status, Failure>> {
        self.loads.retain(|(_, waiter)| !waiter.is_closed());
        let (sender, receiver) = oneshot::channel();
        self.loads.push((load_id, sender));
        receiver
    }
}
