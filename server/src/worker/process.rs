//! One child process and the task that owns it.

use std::{
    fmt, io, os::unix::process::ExitStatusExt, panic::AssertUnwindSafe, process::ExitStatus,
    time::Duration,
};

use futures::FutureExt;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{ChildStdin, ChildStdout},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use super::{
    children::OwnedChild,
    config::WorkerConfig,
    confine,
    handshake::{self, HandshakeError, ReadyMessage},
    log::{self, Tail},
    spawner::{Spawner, WorkerProgram},
};
use crate::{failpoint, model::ModelId, supervisor::Tasks};

/// A worker process. Dropping this kills it; its task reaps it all the same.
#[derive(Debug)]
pub struct WorkerProcess {
    pid: u32,
    signals: mpsc::Sender<Signal>,
    exit: watch::Receiver<Option<WorkerExit>>,
    tail: Tail,
}

/// How long the rest of what a process wrote to its standard error is waited for.
const STDERR_TIMEOUT: Duration = Duration::from_millis(500);

/// How a worker process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    /// It ended by itself with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It was killed because a task that saw to it panicked.
    KilledAfterPanic,
    /// The system does not say.
    Unknown,
}

/// A worker that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program cannot be executed.
    #[error("cannot execute {path}")]
    Execute {
        /// The program.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The program ran but did not become ready.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl WorkerProcess {
    /// Starts a worker for `model` and sees to it with some of `tasks`. The worker still waits for its configuration:
    /// give it one with [`StartingWorker::handshake`].
    ///
    /// # Errors
    ///
    /// When the program cannot be executed.
    pub async fn spawn(
        spawner: &Spawner,
        program: WorkerProgram,
        model: &ModelId,
        tasks: &Tasks,
    ) -> Result<(Self, StartingWorker), SpawnError> {
        let path = program.path.display().to_string();
        let spawned = spawner.spawn(program).await;
        let child = spawned.map_err(|source| SpawnError::Execute { path, source })?;
        let pid = child.process.id().unwrap_or_default();
        if let Err(error) = confine::offer_to_the_oom_killer(pid) {
            tracing::debug!(%error, pid, "cannot set the worker's oom_score_adj");
        }
        Ok(Self::adopt(child, pid, model, tasks))
    }

    /// Sees to `child` with some of `tasks`.
    fn adopt(
        mut child: OwnedChild,
        pid: u32,
        model: &ModelId,
        tasks: &Tasks,
    ) -> (Self, StartingWorker) {
        let process = &mut child.process;
        // For the log only: a span of the traces would be open for the worker's whole life.
        let span = info_span!(target: "worker", "worker", model = %model, pid);
        let tail = Tail::default();
        let (signals, inbox) = mpsc::channel(4);
        let (exit_sender, exit) = watch::channel(None);
        let stdin = process.stdin.take();
        let stdout = process.stdout.take();
        let readers = PipeReaders {
            tasks: tasks.clone(),
            model: model.clone(),
            span: span.clone(),
            reader_panicked: CancellationToken::new(),
        };
        if let Some(stderr) = process.stderr.take() {
            readers.read("worker-stderr", log::drain_to_end(stderr, tail.clone()));
        }
        let (lifeline, held) = oneshot::channel();
        let owner = ChildOwner {
            child,
            signals: inbox,
            model: model.clone(),
            reader_panicked: readers.reader_panicked.clone(),
        };
        tasks.background(
            "worker-owner",
            owner.run(held, exit_sender).instrument(span),
        );
        let starting = StartingWorker {
            stdin,
            stdout,
            lifeline,
            tail: tail.clone(),
            readers,
        };
        let process = Self {
            pid,
            signals,
            exit,
            tail,
        };
        (process, starting)
    }

    /// The process id. It is not given to another process before [`WorkerProcess::exited`] has returned.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGKILL, if the process has not ended.
    pub fn kill(&self) {
        // Full means that signals are on their way already.
        let _ = self.signals.try_send(Signal::KILL);
    }

    /// Waits until the process was reaped.
    pub async fn exited(&self) -> WorkerExit {
        let mut exit = self.exit.clone();
        let ended = exit
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|exit| *exit);
        ended.unwrap_or(WorkerExit::Unknown)
    }

    /// The last lines that the process, which has ended, wrote to its standard error. Waits for them, unless
    /// somebody else keeps its standard error open.
    pub async fn stderr_tail(&self) -> Vec<String> {
        let _ = timeout(STDERR_TIMEOUT, self.tail.complete()).await;
        self.tail.lines()
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // Of one that has ended nobody listens any more.
        self.kill();
    }
}

/// Tasks that a worker cannot do without besides the one that owns it.
#[derive(Debug)]
struct PipeReaders {
    tasks: Tasks,
    model: ModelId,
    span: tracing::Span,
    /// One of them panicked.
    reader_panicked: CancellationToken,
}

impl PipeReaders {
    /// Reads what the worker writes. The worker is killed when that panics: it would block sooner or later.
    fn read(&self, name: &'static str, drain: impl Future<Output = ()> + Send + 'static) {
        let model = self.model.to_string();
        let task = async move {
            tokio::select! {
                () = drain => {}
                never = failpoint::meets(name, Some(&model)) => match never {},
            }
        };
        let reader_panicked = self.reader_panicked.clone();
        let task = task.instrument(self.span.clone());
        self.tasks
            .owned(name, task, move || reader_panicked.cancel());
    }
}

/// A worker that waits for its configuration.
#[derive(Debug)]
pub struct StartingWorker {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    lifeline: oneshot::Sender<ChildStdin>,
    tail: Tail,
    readers: PipeReaders,
}

impl StartingWorker {
    /// Gives the worker its configuration and waits for what it answers. Its standard input stays open
    /// until the process has ended; what it writes to its standard output afterwards is logged.
    ///
    /// # Errors
    ///
    /// When the worker ends, answers with something else or speaks another version of the protocol.
    pub async fn handshake(self, config: &WorkerConfig) -> Result<ReadyMessage, HandshakeError> {
        let (Some(mut stdin), Some(mut stdout)) = (self.stdin, self.stdout) else {
            return Err(HandshakeError::Closed);
        };
        let sent = handshake::send(&mut stdin, config).await;
        // A task that is gone has reaped the worker: nothing is left to hold on to.
        let _ = self.lifeline.send(stdin);
        sent?;
        let ready = handshake::receive(&mut stdout).await;
        let drain = log::drain(stdout, self.tail);
        self.readers.read("worker-stdout", drain);
        ready
    }
}

/// Owns a child process until it was reaped.
struct ChildOwner {
    child: OwnedChild,
    signals: mpsc::Receiver<Signal>,
    model: ModelId,
    /// A task that the process cannot do without has panicked.
    reader_panicked: CancellationToken,
}

impl ChildOwner {
    /// Owns the process, and the lifeline that comes to hold its standard input open, and reports its end to `exit`. That it
    /// was reaped is seen to also when what waits for it panics.
    async fn run(
        mut self,
        lifeline: oneshot::Receiver<ChildStdin>,
        exit: watch::Sender<Option<WorkerExit>>,
    ) {
        let waited = AssertUnwindSafe(self.wait()).catch_unwind().await;
        let ended = match waited {
            Ok(Some(status)) => status.map_or(WorkerExit::Unknown, WorkerExit::from),
            Ok(None) | Err(_) => {
                tracing::error!("a task that saw to the worker panicked; killing the worker");
                // It fails for one that was reaped only.
                let _ = self.child.process.kill().await;
                WorkerExit::KilledAfterPanic
            }
        };
        drop(lifeline);
        failpoint::hold("worker-reaped", Some(self.model.as_str())).await;
        tracing::debug!(exit = %ended, "worker reaped");
        exit.send_replace(Some(ended));
    }

    /// Waits for the end of the process and signals it on demand. `None` when it is not to live on.
    async fn wait(&mut self) -> Option<io::Result<ExitStatus>> {
        loop {
            tokio::select! {
                status = self.child.process.wait() => return Some(status),
                Some(signal) = self.signals.recv() => {
                    let pid = self.child.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
                    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
                        tracing::warn!(%error, ?signal, "cannot signal the worker");
                    }
                }
                () = self.reader_panicked.cancelled() => return None,
                never = failpoint::meets("worker-owner", Some(self.model.as_str())) => match never {},
            }
        }
    }
}

impl From<ExitStatus> for WorkerExit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with status {code}"),
            Self::Signal(9) => f.write_str("was killed (SIGKILL)"),
            Self::Signal(6) => f.write_str("aborted (SIGABRT)"),
            Self::Signal(11) => f.write_str("crashed (SIGSEGV)"),
            Self::Signal(15) => f.write_str("was terminated (SIGTERM)"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::KilledAfterPanic => {
                f.write_str("was killed because a task of the server panicked")
            }
            Self::Unknown => f.write_str("ended"),
        }
    }
}
