//! How the one load goes, for everybody who asks.
//!
//! Invariant: each caller hears everything in order, whenever it asks. One whose connection broke asks again.

use hangar_worker_protocol::v1::{LoadResponse, load_response::Event};
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::shutdown::Shutdown;

/// What the load has come to so far.
#[derive(Debug, Default)]
pub(crate) struct LoadEvents(watch::Sender<Vec<Event>>);

/// One caller of Load.
pub(crate) struct LoadSubscriber {
    events: watch::Receiver<Vec<Event>>,
    shutdown: Shutdown,
    caller: mpsc::Sender<Result<LoadResponse, Status>>,
}

impl LoadEvents {
    /// The load has come to `event`.
    pub(crate) fn publish(&self, event: Event) {
        self.0.send_modify(|events| events.push(event));
    }

    /// Has `caller` hear of the load until it or the worker ends.
    pub(crate) fn follow(
        &self,
        shutdown: Shutdown,
        caller: mpsc::Sender<Result<LoadResponse, Status>>,
    ) -> LoadSubscriber {
        LoadSubscriber {
            events: self.0.subscribe(),
            shutdown,
            caller,
        }
    }
}

impl LoadSubscriber {
    /// Passes on what there is and what comes.
    pub(crate) async fn run(mut self) {
        let mut passed = 0;
        loop {
            // Asked first: what was published before the end is passed on.
            let ended = self.shutdown.reason().is_some();
            let event = self.events.borrow_and_update().get(passed).cloned();
            let Some(event) = event else {
                if ended {
                    return;
                }
                tokio::select! {
                    changed = self.events.changed() => if changed.is_err() { return },
                    _ = self.shutdown.begun() => {}
                    () = self.caller.closed() => return,
                }
                continue;
            };
            passed += 1;
            let is_last = matches!(event, Event::Warmed(_) | Event::Failed(_));
            let response = LoadResponse { event: Some(event) };
            if self.caller.send(Ok(response)).await.is_err() || is_last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hangar_worker_protocol::{
        ExitCode,
        v1::{EngineBuilt, EngineWarmed, WorkerFailure},
    };

    use super::*;

    /// Everything that a caller hears.
    async fn received(events: &LoadEvents, shutdown: &Shutdown) -> Vec<Event> {
        let (caller, mut stream) = mpsc::channel(4);
        events.follow(shutdown.clone(), caller).run().await;
        let mut received = Vec::new();
        while let Some(response) = stream.recv().await {
            received.extend(response.expect("no error").event);
        }
        received
    }

    #[bounded::test]
    async fn a_late_caller_gets_all_events() {
        let (events, shutdown) = (LoadEvents::default(), Shutdown::default());
        let all = [
            Event::EngineBuilt(EngineBuilt::default()),
            Event::Warmed(EngineWarmed::default()),
        ];
        for event in &all {
            events.publish(event.clone());
        }
        assert_eq!(received(&events, &shutdown).await, all);
        assert_eq!(received(&events, &shutdown).await, all);
    }

    #[bounded::test]
    async fn the_reason_is_delivered_although_the_worker_ends() {
        let (events, shutdown) = (LoadEvents::default(), Shutdown::default());
        let failed = Event::Failed(WorkerFailure::default());
        events.publish(failed.clone());
        shutdown.begin(ExitCode::Unusable);
        assert_eq!(received(&events, &shutdown).await, [failed]);
    }

    #[bounded::test]
    async fn a_worker_that_ends_without_a_reason_ends_the_call() {
        let (events, shutdown) = (LoadEvents::default(), Shutdown::default());
        shutdown.begin(ExitCode::TaskDied);
        assert_eq!(received(&events, &shutdown).await, []);
    }
}
