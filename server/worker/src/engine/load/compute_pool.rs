//! The threads that a model on a CPU is computed with: the engine's own is one of them.
//!
//! The engine's operations are divided among the threads of rayon's global pool, hundreds of times a token. A thread that
//! does not belong to the pool hands each of them over, sleeps and is woken, also for what is too small to be divided. One
//! that belongs to it does its part itself.
//!
//! The engine starts its thread by itself, and runs nothing of ours there before the first operation; but whoever waits
//! for an answer of the engine is woken on the thread that gives it. A pool is made once and for all, so the global one
//! must not be there before: the load uses one of its own.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    task::{Context, Wake, Waker},
};

use mistralrs::core::{DetokenizationRequest, Request};
use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Threads of the pool where the machine has fewer: beside the engine's, which rests between requests, there has to be
/// one for whoever else uses the pool.
const FEWEST: usize = 2;

/// Runs a load, on a thread with so large a stack, with threads that end with it.
pub(super) fn apart<T: Send>(stack: usize, load: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let pool = ThreadPoolBuilder::new()
        .thread_name(|_| "load".into())
        .stack_size(stack)
        .build()
        .map_err(|e| Failure::internal(format!("no threads could be started: {e}")))?;
    Ok(pool.install(load))
}

/// Makes the thread of an engine that rests one of the global pool, which gets as many threads as this one. Blocks.
pub(super) fn join(engine: &mpsc::Sender<Request>) {
    let (joined, outcome) = sync_channel(1);
    let waker = Waker::from(Arc::new(OnTheEnginesThread {
        threads: rayon::current_num_threads().max(FEWEST),
        joined: Mutex::new(Some(joined)),
    }));
    let (response, mut answers) = mpsc::channel(1);
    let question = DetokenizationRequest {
        tokens: Vec::new(),
        skip_special_tokens: true,
        response,
    };
    // Nobody was asked yet: this only says whom to wake.
    let _ = answers.poll_recv(&mut Context::from_waker(&waker));
    drop(waker);
    // An engine that is dead shows soon after, by its queue's end.
    let asked = engine.blocking_send(Request::Detokenize(question));
    if asked.is_ok()
        && let Ok(Err(error)) = outcome.recv()
    {
        tracing::warn!(%error, "the engine's thread computes nothing itself, which is slower");
    }
}

/// Makes the thread on which it is woken one of the global pool, the first time.
struct OnTheEnginesThread {
    threads: usize,
    joined: Mutex<Option<SyncSender<Result<(), ThreadPoolBuildError>>>>,
}

impl Wake for OnTheEnginesThread {
    fn wake(self: Arc<Self>) {
        let joined = self
            .joined
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(joined) = joined {
            let pool = ThreadPoolBuilder::new()
                .thread_name(|number| format!("compute-{number}"))
                .num_threads(self.threads)
                .use_current_thread()
                .build_global();
            // Who waits for it is there until it comes.
            let _ = joined.send(pool);
        }
    }
}
