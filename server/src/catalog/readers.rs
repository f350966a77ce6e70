//! The threads that read. They see what is committed, and no writer holds them up.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    error::StorageError,
    writer::{closed, join},
};
use crate::{
    failpoint,
    supervisor::{LivenessProbe, Supervisor, panic_message},
};

/// The way to the threads that read.
#[derive(Debug)]
pub(super) struct Readers {
    jobs: Mutex<Option<mpsc::Sender<ReadJob>>>,
    threads: Vec<Mutex<Option<JoinHandle<()>>>>,
}

type ReadJob = Box<dyn FnOnce(&mut Connection) + Send>;

/// Jobs that wait; more of them wait in their callers.
const QUEUE: usize = 64;

impl Readers {
    /// Starts a thread for each of `connections`.
    pub(super) fn start(connections: Vec<Connection>, supervisor: &Supervisor) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<ReadJob>(QUEUE);
        let inbox = Arc::new(Mutex::new(inbox));
        let mut threads = Vec::new();
        for (n, mut connection) in connections.into_iter().enumerate() {
            let inbox = inbox.clone();
            let thread = supervisor.thread(format!("catalog-read-{n}"), move |probe| {
                while let Some(job) = next(&inbox) {
                    read(job, &mut connection, probe);
                }
            })?;
            threads.push(Mutex::new(Some(thread)));
        }
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            threads,
        })
    }

    /// Reads with `work`, which sees one moment of the catalog.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, outcome) = oneshot::channel();
        let job: ReadJob = Box::new(move |connection| {
            let read = connection
                .transaction()
                .and_then(|tx| work(&tx))
                .map_err(StorageError::from);
            // Nobody may wait any more.
            let _ = reply.send(read);
        });
        let jobs = self
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let jobs = jobs.ok_or_else(closed)?;
        jobs.send(job).await.map_err(|_| closed())?;
        drop(jobs);
        outcome.await.map_err(|_| broken_off())?
    }

    /// Reads what waits and ends the threads.
    pub(super) async fn close(&self) {
        self.jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        for thread in &self.threads {
            join(thread).await;
        }
    }
}

/// What a call gets whose read panicked.
fn broken_off() -> StorageError {
    StorageError::Failed("a read of it panicked".to_owned())
}

/// Does one job. Nothing is changed by it: a panic of it is its caller's, who hears that there is no answer.
fn read(job: ReadJob, connection: &mut Connection, probe: &LivenessProbe) {
    probe.mark_alive();
    let read = || {
        failpoint::pass("catalog-read", None);
        job(connection);
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(read)) {
        tracing::error!(
            panic = panic_message(&*panic),
            "a read of the catalog panicked"
        );
    }
    probe.pause();
}

/// The next job. One idle thread waits for it, the others for that one.
fn next(inbox: &Mutex<mpsc::Receiver<ReadJob>>) -> Option<ReadJob> {
    inbox
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .blocking_recv()
}
