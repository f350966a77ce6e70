//! What `hangar` does for its command line.

use std::{io::Write, time::Duration};

use anyhow::Context;
use clap::Parser;

use crate::{
    config::{Cli, Command, Settings, SettingsArguments},
    demo,
    server::Server,
    signal,
    supervisor::FAULT,
    telemetry::Telemetry,
};

/// Time that the last telemetry has to be sent.
const FLUSH: Duration = Duration::from_secs(3);

/// Does what the command line says, and gives the status that the process is to end with.
pub async fn run() -> u8 {
    let result = match Cli::parse().command {
        Command::Serve(arguments) => serve(arguments.settings).await,
        Command::Demo(arguments) => demo::run(arguments).await,
    };
    result.unwrap_or_else(|error| {
        eprintln!("hangar: {error:#}");
        1
    })
}

async fn serve(arguments: SettingsArguments) -> anyhow::Result<u8> {
    let settings = Settings::load(arguments)?;
    let telemetry = Telemetry::init(&settings)?;
    let signals = signal::Signals::listen()?;
    let server = Server::start(&settings, &telemetry).await?;
    announce(&server)?;
    let tasks = server.supervisor();
    tokio::select! {
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

/// Tells scripts, on standard output, where the server listens.
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
