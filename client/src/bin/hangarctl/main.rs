//! `hangarctl`: the command line of Hangar.

mod args;
mod embed;
mod failure;
mod generate;
mod health;
mod info;
mod json;
mod load;
mod models;
mod output;
mod progress;
mod report;
mod session;
mod spec;
mod switch;
mod table;
mod telemetry;
mod tokens;
mod unload;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use hangar_client::Client;
use tracing::Instrument;

use crate::{
    args::{Cli, Command},
    output::{Failure, Writer},
    telemetry::Telemetry,
};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let telemetry = Telemetry::start();
    let (name, model) = cli.command.subject();
    let span = tracing::info_span!(
        "command",
        otel.name = format!("hangarctl {name}"),
        otel.status_code = tracing::field::Empty,
        hangar.model.id = model,
    );
    let writer = Writer::new(cli.output());
    let result = run(cli, &writer).instrument(span.clone()).await;
    let code = match &result {
        Ok(()) => 0,
        Err(failure) => {
            span.record("otel.status_code", "ERROR");
            failure.report(writer.is_json());
            failure.exit_code()
        }
    };
    drop(span);
    telemetry.stop().await;
    ExitCode::from(code)
}

async fn run(cli: Cli, writer: &Writer) -> Result<(), Failure> {
    let client = Client::builder(cli.server)
        .user_agent(concat!("hangarctl/", env!("CARGO_PKG_VERSION")))
        .connect()
        .await?;
    match cli.command {
        Command::Info(args) => info::run(&client, args, writer).await,
        Command::Report(args) => report::run(&client, args, writer).await,
        Command::Load(args) => load::run(&client, *args, writer).await,
        Command::Unload(args) => unload::run(&client, args, writer).await,
        Command::Switch(args) => switch::run(&client, *args, writer).await,
        Command::Models(command) => models::run(&client, command, writer).await,
        Command::Session(command) => session::run(&client, command, writer).await,
        Command::Watch(args) => watch::run(&client, args, writer).await,
        Command::Generate(args) => generate::run(&client, *args, writer).await,
        Command::Embed(args) => embed::run(&client, args, writer).await,
        Command::Tokenize(args) => tokens::tokenize(&client, args, writer).await,
        Command::Detokenize(args) => tokens::detokenize(&client, args, writer).await,
        Command::Health(args) => health::run(&client, args, writer).await,
    }
}
