//! Starts child processes from one thread that lives as long as the server.
//!
//! A worker asks the kernel to be killed when its parent dies, and the kernel counts the death of the
//! *thread* that started it. Threads of the async runtime come and go; this one does not. It also reaps what this process was
//! handed: nothing is being started meanwhile that it might take for such a process.

use std::{io, path::PathBuf, process::Stdio};

use tokio::{
    process::Command,
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::children::{OwnedChild, OwnedChildren};
use crate::{failpoint, supervisor::Supervisor};

/// The program that workers run.
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    /// Its path.
    pub path: PathBuf,
    /// Variables that it gets besides those that all workers get.
    pub environment: Vec<(&'static str, String)>,
}

/// Starts child processes. Cheap to clone; the thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
enum Request {
    Spawn {
        program: WorkerProgram,
        reply: oneshot::Sender<io::Result<OwnedChild>>,
    },
    ReapOthers,
}

/// Requests that wait for the thread. Further callers wait for a place.
const QUEUE: usize = 8;

/// What workers get of the server's environment. The rest may hold secrets.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "TZ",
    "RAYON_NUM_THREADS",
];

impl Spawner {
    /// Starts the thread, which `supervisor` watches, and a task that has it reap.
    ///
    /// # Errors
    ///
    /// When the system gives no thread, or does not tell when children end.
    pub fn start(runtime: Handle, supervisor: &Supervisor) -> io::Result<Self> {
        let (requests, mut inbox) = mpsc::channel::<Request>(QUEUE);
        let ends = signal(SignalKind::child())?;
        let reaping = reap(ends, requests.downgrade());
        supervisor.tasks().critical("reaper", reaping);
        supervisor.thread("hangar-spawner", move |probe| {
            let _guard = runtime.enter();
            let mut children = OwnedChildren::default();
            while let Some(request) = inbox.blocking_recv() {
                probe.mark_alive();
                failpoint::pass("hangar-spawner", None);
                match request {
                    Request::Spawn { program, reply } => {
                        let child = command(&program).spawn();
                        // A caller that is gone drops the child, which ends it.
                        let _ = reply.send(child.map(|child| children.add(child)));
                    }
                    Request::ReapOthers => children.reap_others(),
                }
                probe.pause();
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts `program` with pipes on its standard streams, in a process group of its own, so that a
    /// Ctrl-C on the server's terminal reaches the server only. Waits until the thread gets to it; safe to cancel.
    ///
    /// # Errors
    ///
    /// When the program cannot be executed.
    pub(super) async fn spawn(&self, program: WorkerProgram) -> io::Result<OwnedChild> {
        let (reply, child) = oneshot::channel();
        let gone = || io::Error::other("the spawner thread has ended");
        let request = Request::Spawn { program, reply };
        self.requests.send(request).await.map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
impl Spawner {
    /// One that starts nothing, and reaps nothing that belongs to other tests.
    pub fn idle() -> Self {
        let (requests, _) = mpsc::channel(1);
        Self { requests }
    }
}

/// Has the thread look for processes to reap whenever children have ended, for as long as there is a spawner.
async fn reap(mut ends: Signal, requests: mpsc::WeakSender<Request>) {
    while ends.recv().await.is_some() {
        let Some(requests) = requests.upgrade() else {
            return;
        };
        // The thread has ended only after a panic, which it reports itself.
        let _ = requests.send(Request::ReapOthers).await;
    }
}

fn command(program: &WorkerProgram) -> Command {
    let mut command = Command::new(&program.path);
    command
        .env_clear()
        .envs(
            ENVIRONMENT
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .envs(
            program
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .env("RUST_BACKTRACE", "0")
        // The engine makes the directory of its downloads, of which there are none, where it can.
        .env("HF_HUB_CACHE", "/proc")
        .process_group(0)
        // Whoever holds the child and goes, in whatever way, takes it along.
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}
