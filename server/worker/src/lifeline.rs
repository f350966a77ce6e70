//! What ties the worker's process to its server: it never outlives it, and it dies first.
//!
//! Two ways end an orphan: the kernel's parent-death signal, and a thread that waits for the end of
//! standard input, which the server holds open for the worker's whole life.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::unix::process::CommandExt,
    process::Command,
};

use hangar_worker_protocol::ExitCode;
use rustix::process::{Resource, Rlimit, Signal};

/// Variables that make the engine put backtraces into its messages.
const BACKTRACE_VARIABLES: [&str; 2] = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"];

/// Starts this program anew without backtraces if they are switched on; else does nothing.
///
/// The environment is read at the first backtrace and cannot be changed safely in a running process.
/// Standard streams and process id stay the same.
pub(crate) fn without_backtraces() -> std::io::Result<()> {
    let on = |name: &&str| std::env::var_os(name).is_some_and(|value| value != "0");
    if !BACKTRACE_VARIABLES.iter().any(on) {
        return Ok(());
    }
    let mut again = Command::new("/proc/self/exe");
    again.args(std::env::args_os().skip(1));
    again.arg0(std::env::args_os().next().unwrap_or_default());
    for name in BACKTRACE_VARIABLES {
        again.env(name, "0");
    }
    Err(again.exec())
}

/// Makes this process leave no core dump: it would be as large as the model.
pub(crate) fn disable_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(e) = rustix::process::setrlimit(Resource::Core, none) {
        tracing::warn!(error = %e, "core dumps could not be switched off");
    }
}

/// Makes this process the first to go when memory is short. The server has asked the same of the kernel when it started
/// it, so that it holds from the first moment on; here it holds for one that was started otherwise, too, and is told of
/// when it cannot be had.
pub(crate) fn prefer_oom_kill() {
    if let Err(e) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        tracing::warn!(error = %e, "the out-of-memory score could not be raised");
    }
}

/// Asks the kernel to kill this process when the thread that started it ends.
pub(crate) fn die_with_parent() -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Whether the server is this process's parent. Asked after [`die_with_parent`], since the signal is not
/// sent for a parent that was gone before.
pub(crate) fn is_child_of(server_pid: u32) -> bool {
    rustix::process::getppid()
        .is_some_and(|parent| u32::try_from(parent.as_raw_nonzero().get()) == Ok(server_pid))
}

/// Takes the standard output for the ready message and points it at the standard error stream, so that
/// nothing else can write into the handshake.
pub(crate) fn take_stdout() -> std::io::Result<File> {
    let private = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(File::from(private))
}

/// Ends the process when the thread that holds it panics.
struct ExitOnPanic;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        exit_now(ExitCode::TaskDied);
    }
}

/// Ends the process when standard input ends. The thread lives as long as the process.
pub(crate) fn watch_stdin() -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("lifeline".into())
        .spawn(|| {
            let _or_else = ExitOnPanic;
            let mut input = std::io::stdin().lock();
            let mut ignored = [0; 64];
            loop {
                match input.read(&mut ignored) {
                    Ok(0) => exit_now(ExitCode::Orphan),
                    Ok(_) => {}
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(_) => exit_now(ExitCode::Orphan),
                }
            }
        })?;
    Ok(())
}

/// Ends the process at once, without the exit handlers of the libraries in it.
pub(crate) fn exit_now(code: ExitCode) -> ! {
    // SAFETY: `_exit` takes any status, touches no memory of this process and does not return.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(code as i32)
    }
}
