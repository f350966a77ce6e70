//! What `hangar` does for its command line.

use std::{
    io::{self, Write},
    num::NonZero,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::Parser;
use tokio::{
    runtime::{Builder, Runtime},
    task::spawn_blocking,
};

use crate::{
    config::{Cli, Command, Settings, SettingsArguments},
    demo,
    server::Server,
    signal,
    supervisor::FAULT,
    telemetry::{Telemetry, flush_log, write_last_line},
};

/// Time that the last telemetry has to be sent.
const FLUSH: Duration = Duration::from_secs(3);

/// Time that the reader of the log has for the last lines.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// Does what the command line says, and ends the process.
pub fn run() {
    match runtime() {
        Ok(runtime) => runtime.block_on(run_and_exit()),
        Err(error) => {
            eprintln!("hangar: cannot start a thread: {error}");
            std::process::exit(1)
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    Builder::new_multi_thread()
        .worker_threads(runtime_threads(processors))
        .enable_all()
        .build()
}

/// Threads that tasks run on, where this process may use so many processors.
///
/// Two at least, also for a single one: with one thread a task that does not let go of it stops every other, and so one
/// model's fault would be everybody's. Eight at most: a token costs the server some 40,000 instructions, so that these pass
/// on more than the engines of a machine make, and each further thread would take memory for a heap of its own. It is no
/// setting: nothing else that the server shows says how to set it.
fn runtime_threads(processors: usize) -> usize {
    processors.clamp(2, 8)
}

async fn run_and_exit() {
    let status = run_command().await;
    flush_log(LOG_FLUSH);
    // Nothing that is stuck may hold the process up, not even in being dropped. Workers end with it.
    std::process::exit(i32::from(status))
}

/// Does what the command line says, and gives the status that the process is to end with.
async fn run_command() -> u8 {
    let result = match Cli::parse().command {
        Command::Serve(arguments) => serve(arguments.settings).await,
        Command::Demo(arguments) => demo::run(arguments).await,
    };
    result.unwrap_or_else(|error| {
        write_last_line(&format!("hangar: {error:#}"));
        1
    })
}

async fn serve(arguments: SettingsArguments) -> anyhow::Result<u8> {
    let signals = signal::Signals::listen()?;
    // Whatever the system holds the start up with, a signal ends it: nothing was begun that has to be ended in order.
    let settings = tokio::select! {
        settings = spawn_blocking(|| Settings::load(arguments)) => settings??,
        () = signals.terminated() => return Ok(0),
    };
    let telemetry = Arc::new(Telemetry::init(&settings)?);
    let server = tokio::select! {
        server = Server::start(settings, telemetry.clone()) => server?,
        () = signals.terminated() => {
            tracing::info!("told to end before anything was begun");
            return Ok(0);
        }
    };
    let tasks = server.supervisor();
    tokio::select! {
        error = begin(&server) => return Err(error),
        () = signals.terminated() => {}
        _ = tasks.failure() => {}
    }
    let mut stop = std::pin::pin!(async {
        let orderly = server.stop().await;
        telemetry.shutdown(FLUSH).await;
        orderly
    });
    let orderly = signals.or_second(stop.as_mut()).await;
    Ok(if tasks.has_failed() {
        FAULT
    } else {
        u8::from(orderly != Some(true))
    })
}

/// Begins what was asked for and says where the server listens. Ends only when that fails.
async fn begin(server: &Server) -> anyhow::Error {
    let begun = async {
        server.begin_loads().await?;
        announce(server)
    };
    match begun.await {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}

/// Says to scripts, on standard output, where the server listens.
fn announce(server: &Server) -> anyhow::Result<()> {
    let line = serde_json::json!({
        "listen": server.listen().to_string(),
        "ops_listen": server.ops_listen().to_string(),
        "pid": std::process::id(),
    });
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn one_processor_has_two_threads_and_many_have_a_few() {
        let threads = [1, 2, 4, 8, 64].map(runtime_threads);
        assert_eq!(threads, [2, 2, 4, 8, 8]);
    }
}
