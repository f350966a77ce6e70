//! What calls have done on threads that block: so much at a time, and nothing for a caller that has gone.
//!
//! A thread cannot be stopped from outside. So the work keeps its slot until it has ended, and looks time and again
//! whether somebody still waits for it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::grpc_error;

/// A request of more bytes is a long one: those wait for each other, and short ones not for them.
pub(crate) const LONG: usize = 64 << 10;

/// Long requests that are worked at at the same time.
const LONG_SLOTS: usize = 4;

/// The same of others.
const SHORT_SLOTS: usize = 8;

/// Where calls have blocking work done.
#[derive(Debug)]
pub(crate) struct CallWork {
    long: Arc<Semaphore>,
    short: Arc<Semaphore>,
    ended: CancellationToken,
}

impl CallWork {
    /// A token for the work of one call: who drops the call cancels it.
    pub(crate) fn token(&self) -> CancellationToken {
        self.ended.child_token()
    }

    /// Has `work` done for a request of so many bytes, in the order of the requests. Safe to cancel: what waits is
    /// forgotten, and what runs has its token cancelled.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&CancellationToken) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let cancelled = self.token();
        let _caller = cancelled.clone().drop_guard();
        self.run_until(&cancelled, bytes, work).await
    }

    /// As [`Self::run`], with a token of [`Self::token`], which is left to others to cancel.
    pub(crate) async fn run_until<T: Send + 'static>(
        &self,
        cancelled: &CancellationToken,
        bytes: usize,
        work: impl FnOnce(&CancellationToken) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let slots = match bytes > LONG {
            true => &self.long,
            false => &self.short,
        };
        let slot = slot(slots, cancelled).await?;
        let cancelled = cancelled.clone();
        on_thread(move || {
            let _slot = slot;
            work(&cancelled)
        })
        .await
    }

    /// Ends the work of all calls, and lets none begin.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }
}

impl Default for CallWork {
    fn default() -> Self {
        Self {
            long: Arc::new(Semaphore::new(LONG_SLOTS)),
            short: Arc::new(Semaphore::new(SHORT_SLOTS)),
            ended: CancellationToken::new(),
        }
    }
}

/// Waits for one of the slots of a semaphore, which is never closed, and no longer than until it is `cancelled`.
pub(crate) async fn slot(
    slots: &Arc<Semaphore>,
    cancelled: &CancellationToken,
) -> Result<OwnedSemaphorePermit, Status> {
    let slot = Arc::clone(slots).acquire_owned();
    match cancelled.run_until_cancelled(slot).await {
        Some(Ok(slot)) => Ok(slot),
        Some(Err(_)) | None => Err(grpc_error::unloaded()),
    }
}

/// Has `work` done on a thread that may block. It goes on when this is dropped: whoever calls this bounds how much
/// there is of it.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| grpc_error::internal(format!("the request could not be made ready: {e}")))?
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::mpsc::{Receiver, sync_channel},
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// Polls once.
    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    /// Work that ends when it is cancelled, and says so, and what says when it has begun.
    fn endless() -> (
        impl FnOnce(&CancellationToken) -> Result<(), Status> + Send + 'static,
        Receiver<()>,
        Receiver<()>,
    ) {
        let (begin, begun) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let work = move |cancelled: &CancellationToken| {
            begin.send(()).expect("somebody listens");
            futures::executor::block_on(cancelled.cancelled());
            end.send(()).expect("somebody listens");
            Ok(())
        };
        (work, begun, ended)
    }

    #[bounded::test(flavor = "multi_thread")]
    async fn what_is_given_up_keeps_its_slot_until_it_has_ended() {
        let calls = CallWork::default();
        let mut running = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..LONG_SLOTS {
            let (work, begun, ended) = endless();
            let mut call = Box::pin(calls.run(LONG + 1, work));
            assert!(poll(call.as_mut()).is_none());
            tokio::task::block_in_place(|| begun.recv().expect("it begins"));
            running.push(call);
            ends.push(ended);
        }
        let mut waits = pin!(calls.run(LONG + 1, |_| Ok(())));
        assert!(poll(waits.as_mut()).is_none());
        calls.run(LONG, |_| Ok(())).await.expect("a short one");
        // One that waited and has gone is not in the way.
        let mut gone = Box::pin(calls.run(LONG + 1, |_| Ok(())));
        assert!(poll(gone.as_mut()).is_none());
        drop(gone);
        drop(running.pop());
        waits.await.expect("its slot is free");
        drop(running);
        for ended in ends {
            tokio::task::block_in_place(|| ended.recv().expect("it ends"));
        }
    }

    #[bounded::test(flavor = "multi_thread")]
    async fn the_end_ends_what_runs_and_what_waits() {
        let calls = CallWork::default();
        let (work, begun, _ended) = endless();
        let mut running = pin!(calls.run(0, work));
        assert!(poll(running.as_mut()).is_none());
        tokio::task::block_in_place(|| begun.recv().expect("it begins"));
        calls.end();
        running.await.expect("it ends by itself");
        let refused = calls.run(0, |_| Ok(())).await.expect_err("the end");
        assert_eq!(refused.code(), tonic::Code::Unavailable);
    }
}
