//! The one thread that writes.
//!
//! Invariant: what was answered is on disk. Jobs are done one after another, each as one transaction;
//! deferred writes are done before the next job.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    DeferredWrite, change::Change, deferred_writes::DeferredWrites, error::StorageError,
    names::Names,
};
use crate::{
    failpoint,
    model::ModelId,
    supervisor::{LivenessProbe, Supervisor},
};

/// The way to the thread that writes.
#[derive(Debug)]
pub(super) struct CatalogWriter {
    jobs: mpsc::Sender<Message>,
    deferred: Arc<DeferredWrites>,
    committed: Arc<Committed>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What is told of commits, right after each and before whoever asked for it hears of it.
#[derive(Debug)]
struct Committed {
    names: Arc<Names>,
    generation: AtomicU64,
}

type WriteJob = Box<dyn FnOnce(&mut Connection, &Committed) + Send>;

enum Message {
    Job(WriteJob),
    DeferredWrites,
    Close,
}

/// Jobs that wait; more of them wait in their callers.
const QUEUE: usize = 64;

impl CatalogWriter {
    /// Starts the thread, which owns `connection` from now on.
    pub(super) fn start(
        connection: Connection,
        names: Arc<Names>,
        supervisor: &Supervisor,
    ) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let deferred = Arc::new(DeferredWrites::default());
        let waiting = deferred.clone();
        let committed = Arc::new(Committed {
            names,
            generation: AtomicU64::new(0),
        });
        let told = committed.clone();
        let thread = supervisor.thread("catalog-write", move |probe| {
            write(connection, inbox, &told, &waiting, probe);
        })?;
        Ok(Self {
            jobs,
            deferred,
            committed,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Does `work` as one transaction. What it returns is on disk; on an error nothing has changed. Goes on
    /// when the caller stops waiting.
    pub(super) async fn run<T, E>(
        &self,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StorageError> + From<rusqlite::Error> + Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        let job: WriteJob = Box::new(move |connection, committed| {
            // Nobody may wait any more.
            let _ = reply.send(transact(connection, committed, work));
        });
        let sent = self.jobs.send(Message::Job(job)).await;
        sent.map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }

    /// A number that is another one after each commit.
    pub(super) fn generation(&self) -> u64 {
        self.committed.generation.load(Ordering::Acquire)
    }

    /// Does `work` and then undoes it: says whether it would be done.
    pub(super) async fn dry_run<T, E>(
        &self,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StorageError> + From<rusqlite::Error> + Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        let job: WriteJob = Box::new(move |connection, _| {
            let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
            // Dropping a change undoes it.
            let done = begun
                .map_err(E::from)
                .and_then(|tx| work(&mut Change::new(tx)));
            let _ = reply.send(done);
        });
        let sent = self.jobs.send(Message::Job(job)).await;
        sent.map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }

    /// Has this written soon.
    pub(super) fn defer(&self, id: &ModelId, write: DeferredWrite) {
        if !self.deferred.add(id, write) {
            return;
        }
        match self.jobs.try_send(Message::DeferredWrites) {
            // Where jobs wait, it is written before the first of them.
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => {
                tracing::warn!(%id, "a note came after the catalog was closed");
            }
        }
    }

    /// Writes what waits and ends the thread.
    pub(super) async fn close(&self) {
        // It has ended already if that fails.
        let _ = self.jobs.send(Message::Close).await;
        join(&self.thread).await;
    }
}

impl Committed {
    fn advance(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// Waits for a thread that is about to end.
pub(super) async fn join(thread: &Mutex<Option<JoinHandle<()>>>) {
    let handle = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(handle) = handle {
        let joined = tokio::task::spawn_blocking(move || handle.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("a thread of the catalog ended badly");
        }
    }
}

/// What a call gets that comes too late.
pub(super) fn closed() -> StorageError {
    StorageError::Failed("it is closed".to_owned())
}

fn transact<T, E>(
    connection: &mut Connection,
    committed: &Committed,
    work: impl FnOnce(&mut Change<'_>) -> Result<T, E>,
) -> Result<T, E>
where
    E: From<rusqlite::Error>,
{
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut change = Change::new(tx);
    let done = work(&mut change)?;
    committed.names.apply(change.commit()?);
    committed.advance();
    Ok(done)
}

/// The thread.
fn write(
    mut connection: Connection,
    mut inbox: mpsc::Receiver<Message>,
    committed: &Committed,
    deferred: &DeferredWrites,
    probe: &LivenessProbe,
) {
    while let Some(message) = inbox.blocking_recv() {
        probe.mark_alive();
        failpoint::pass("catalog-write", None);
        if deferred.write(&mut connection) {
            committed.advance();
        }
        match message {
            Message::Job(job) => job(&mut connection, committed),
            Message::DeferredWrites => {}
            // What came before is still done.
            Message::Close => inbox.close(),
        }
        probe.pause();
    }
    deferred.write(&mut connection);
    // Closing the last connection writes the journal back into the file and removes it.
    if let Err((_, error)) = connection.close() {
        tracing::error!(%error, "the catalog was not closed cleanly; nothing is lost");
    }
}
