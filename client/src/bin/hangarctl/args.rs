//! The command line's arguments.

pub(crate) mod embed;
mod generate;
mod kv_cache;
pub(crate) mod models;
pub(crate) mod session;
pub(crate) mod spec;
pub(crate) mod switch;

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::generate::{DetokenizeArgs, GenerateArgs, TokenizeArgs};
use self::{
    embed::EmbedArgs, models::ModelsCommand, session::SessionCommand, spec::SpecArgs,
    switch::SwitchArgs,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  the call succeeded
  1  the call failed, or a model or the server is not as asked for
  2  wrong usage
  3  the server cannot be reached

Traces are sent over OTLP when OTEL_EXPORTER_OTLP_ENDPOINT is set.";

const INFO_EXAMPLES: &str = "\
Examples:
  hangarctl info
  hangarctl info demo
  hangarctl info --output json | jq -r '.models[] | [.modelId, .status.state] | @tsv'";

const REPORT_EXAMPLES: &str = "\
Examples:
  hangarctl report demo
  hangarctl report demo --minutes
  hangarctl report demo --output json | jq -r '.history[] | [.startTime, .requests, .tokensPerSecond] | @tsv'";

const LOAD_EXAMPLES: &str = "\
Examples:
  hangarctl load demo --demo
  hangarctl load qwen --path /models/Qwen3-0.6B --dtype f16 --context-length 4096
  hangarctl load tiny --path /models/tiny.gguf --no-wait
  hangarctl load m --spec '{\"source\":{\"path\":\"/models/m\"},\"restartPolicy\":{\"mode\":\"RESTART_MODE_NEVER\"}}'
  hangarctl load qwen              # one that the server knows";

const UNLOAD_EXAMPLES: &str = "\
Examples:
  hangarctl unload demo
  hangarctl unload demo --drain-timeout 5s
  hangarctl unload --all --force";

const SWITCH_EXAMPLES: &str = "\
Examples:
  hangarctl switch chat qwen-2 --wait
  hangarctl switch chat qwen-2 --path /models/Qwen3-1.7B --strategy load-first --wait
  hangarctl switch chat qwen-2 --dry-run

Where the switch fails, the alias stays where it was and the exit code is 1.";

const SESSION_EXAMPLES: &str = "\
Examples:
  SESSION=$(hangarctl session create --ttl 5m)
  hangarctl load qwen --session $SESSION
  hangarctl session keepalive $SESSION
  hangarctl session close $SESSION";

const WATCH_EXAMPLES: &str = "\
Examples:
  hangarctl watch
  hangarctl watch demo qwen
  hangarctl watch --output json | jq -c 'select(.changed).changed.status | [.modelId, .state]'";

const GENERATE_EXAMPLES: &str = "\
Examples:
  hangarctl generate demo 'What is Hangar?'
  hangarctl generate qwen --system 'Answer in French.' 'What is the capital of Peru?'
  hangarctl generate qwen --raw 'Once upon a time' --max-tokens 64 --temperature 0
  hangarctl generate qwen 'Name a city.' --json-schema @city.json --seed 7
  hangarctl generate qwen 'What is 17 + 25?' --regex '[0-9]+' --logprobs 3
  hangarctl generate qwen 'Is it raining in Ulm?' --tools @tools.json
  hangarctl generate qwen 'Hi' --template-option enable_thinking=false
  git diff | hangarctl generate qwen --system 'Write a commit message.' -";

/// Keeps, loads, watches, uses, switches and unloads models on a Hangar server.
#[derive(Debug, Parser)]
#[command(name = "hangarctl", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Address of the server: http://HOST:PORT or unix:PATH.
    #[arg(
        long,
        global = true,
        env = "HANGAR_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_name = "ADDRESS"
    )]
    pub(crate) server: String,
    /// How to write results. JSON is canonical protobuf JSON, for streams one object a line.
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Short for --output json.
    #[arg(long, global = true, conflicts_with = "output")]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to write results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the server and its models, or one model in full.
    #[command(after_help = INFO_EXAMPLES)]
    Info(InfoArgs),
    /// Show what a model did in the last day, by the hour.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Make a model ready.
    #[command(after_help = LOAD_EXAMPLES)]
    Load(Box<LoadArgs>),
    /// Stop a model; done when its process is gone.
    #[command(after_help = UNLOAD_EXAMPLES)]
    Unload(UnloadArgs),
    /// Point an alias at another model: load that, move the alias, unload the old one.
    #[command(after_help = SWITCH_EXAMPLES)]
    Switch(Box<SwitchArgs>),
    /// Keep the catalog: list, get, create, update and delete models.
    #[command(subcommand, visible_alias = "model")]
    Models(ModelsCommand),
    /// Hold models for as long as a session lives.
    #[command(subcommand, after_help = SESSION_EXAMPLES)]
    Session(SessionCommand),
    /// Follow the status of models; resumes by itself after a disconnect.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Generate text, written as it is made.
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(Box<GenerateArgs>),
    /// Turn texts into vectors.
    #[command(after_help = embed::EXAMPLES)]
    Embed(EmbedArgs),
    /// Split a text into a model's tokens.
    Tokenize(TokenizeArgs),
    /// Put a model's tokens together to a text.
    Detokenize(DetokenizeArgs),
    /// Ask for the server's health: "liveness", "readiness", "startup" or "model/ID".
    Health(HealthArgs),
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Only this model, in full.
    pub(crate) model: Option<String>,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Id of the model.
    pub(crate) model: String,
    /// Show every minute in which the model was loaded or used.
    #[arg(long)]
    pub(crate) minutes: bool,
}

/// Arguments of `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Id of the model.
    #[arg(required_unless_present = "all")]
    pub(crate) model: Option<String>,
    /// Load all registered models.
    #[arg(long, conflicts_with_all = ["model", "force_reload", "session"])]
    pub(crate) all: bool,
    /// Do not wait until the model is READY.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Load anew even when the model is READY.
    #[arg(long)]
    pub(crate) force_reload: bool,
    /// The load fails after this time, for example 90s or 10m; the server's default is 5m.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
    /// Session that is to hold the model.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
}

/// Arguments of `unload`.
#[derive(Debug, Args)]
pub(crate) struct UnloadArgs {
    /// Id of the model.
    #[arg(required_unless_present = "all")]
    pub(crate) model: Option<String>,
    /// Unload all models; without --force not the required ones.
    #[arg(long, conflicts_with = "model")]
    pub(crate) all: bool,
    /// Do not drain, and unload although the model is required or held.
    #[arg(long)]
    pub(crate) force: bool,
    /// How long running requests may go on, for example 5s; the server's default is 30s.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) drain_timeout: Option<Duration>,
    /// Session that may unload the model as its only holder.
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    pub(crate) session: Option<String>,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only these models; they need not be known yet.
    pub(crate) models: Vec<String>,
    /// Shortest time between two progress messages of a model.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) progress_interval: Option<Duration>,
    /// Go on behind the event with this token (`resumeToken` of the JSON output).
    #[arg(long, value_name = "TOKEN")]
    pub(crate) resume_token: Option<String>,
}

/// Arguments of `health`.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// What to ask for.
    #[arg(default_value = "readiness")]
    pub(crate) service: String,
}

impl Cli {
    /// How to write results.
    pub(crate) fn output(&self) -> Output {
        match self.json {
            true => Output::Json,
            false => self.output,
        }
    }
}

impl Command {
    /// Name of the command, and the model that it is about.
    pub(crate) fn subject(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Info(args) => ("info", args.model.as_deref()),
            Self::Report(args) => ("report", Some(&args.model)),
            Self::Load(args) => ("load", args.model.as_deref()),
            Self::Unload(args) => ("unload", args.model.as_deref()),
            Self::Switch(args) => ("switch", Some(&args.model)),
            Self::Models(command) => command.subject(),
            Self::Session(command) => (command.name(), None),
            Self::Watch(_) => ("watch", None),
            Self::Generate(args) => ("generate", Some(&args.model)),
            Self::Embed(args) => ("embed", Some(&args.model)),
            Self::Tokenize(args) => ("tokenize", Some(&args.model)),
            Self::Detokenize(args) => ("detokenize", Some(&args.model)),
            Self::Health(_) => ("health", None),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[bounded::test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[bounded::test]
    fn a_target_is_required() {
        assert!(Cli::try_parse_from(["hangarctl", "unload"]).is_err());
        assert!(Cli::try_parse_from(["hangarctl", "unload", "--all"]).is_ok());
        assert!(Cli::try_parse_from(["hangarctl", "load", "m", "--path", "/m", "--demo"]).is_err());
    }
}
