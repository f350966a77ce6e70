//! Ways for a process to stop working.

use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tonic::Status;

/// How a worker stops working.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL, as from the kernel when memory is short.
    #[default]
    Kill,
    /// SIGABRT, as after an allocation that failed.
    Abort,
    /// SIGSEGV.
    Segfault,
    /// An exit with this code.
    Exit(i32),
    /// SIGSTOP: it lives, and nothing but SIGKILL reaches it.
    Stop,
}

/// Time for what was said before to leave the process.
const FLUSH_TIME: Duration = Duration::from_millis(50);

/// Time for a signal to take effect.
const DELIVERY: Duration = Duration::from_secs(1);

/// A status with more words than headers take, which breaks the connection of its call.
pub(super) fn broken_connection() -> Status {
    Status::internal("a long error ".repeat(5_000))
}

impl Fault {
    /// As [`Self::strike`], once the answers that were given before are on their way.
    pub(super) async fn strike_soon(self) {
        tokio::time::sleep(FLUSH_TIME).await;
        self.strike();
    }

    /// Makes it happen to this process. Comes back only from `Stop`, and then not before someone
    /// sends SIGCONT.
    pub(super) fn strike(self) {
        let signal = match self {
            Self::Exit(code) => std::process::exit(code),
            Self::Abort => std::process::abort(),
            Self::Kill => Signal::KILL,
            Self::Segfault => Signal::SEGV,
            Self::Stop => Signal::STOP,
        };
        // Rust's own handler of SIGSEGV takes the first one and removes itself.
        let attempts = if signal == Signal::SEGV { 10 } else { 1 };
        for _ in 0..attempts {
            if let Err(error) = kill_process(getpid(), signal) {
                eprintln!("cannot signal myself: {error}");
            }
            // Another thread may be the one to take the signal, a little later.
            std::thread::park_timeout(DELIVERY);
        }
    }
}
