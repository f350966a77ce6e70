//! The command line's arguments.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hangar_client::v1;

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
  git diff | hangarctl generate qwen --system 'Write a commit message.' -";

/// Loads, watches, uses and unloads models on a Hangar server.
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
    /// Make a model ready.
    #[command(after_help = LOAD_EXAMPLES)]
    Load(Box<LoadArgs>),
    /// Stop a model; done when its process is gone.
    #[command(after_help = UNLOAD_EXAMPLES)]
    Unload(UnloadArgs),
    /// Follow the status of models; resumes by itself after a disconnect.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Generate text, written as it is made.
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(GenerateArgs),
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

/// Arguments of `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Id of the model.
    #[arg(required_unless_present = "all")]
    pub(crate) model: Option<String>,
    /// Load all registered models.
    #[arg(long, conflicts_with_all = ["model", "force_reload", "path", "demo", "spec", "dtype", "context_length"])]
    pub(crate) all: bool,
    /// Directory or GGUF file of the model on the server's machine.
    #[arg(long, conflicts_with_all = ["demo", "spec"])]
    pub(crate) path: Option<String>,
    /// The small model that is built into Hangar.
    #[arg(long, conflicts_with = "spec")]
    pub(crate) demo: bool,
    /// The whole spec as JSON (hangar.v1.ModelSpec).
    #[arg(long, value_name = "JSON")]
    pub(crate) spec: Option<String>,
    /// Data type of the weights in memory.
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<DataType>,
    /// Longest sequence of prompt and answer in tokens.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context_length: Option<u32>,
    /// How many requests run at the same time.
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrency: Option<u32>,
    /// How many further requests may wait.
    #[arg(long, value_name = "N")]
    pub(crate) max_queue: Option<u32>,
    /// Do not wait until the model is READY.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Load anew even when the model is READY.
    #[arg(long)]
    pub(crate) force_reload: bool,
    /// The load fails after this time, for example 90s or 10m; the server's default is 5m.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

/// Data type of the weights in memory.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DataType {
    /// 32-bit floating point.
    F32,
    /// 16-bit IEEE floating point.
    F16,
    /// 16-bit brain floating point.
    Bf16,
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

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Id of the model.
    pub(crate) model: String,
    /// The prompt. Read from standard input when it is "-" or missing.
    pub(crate) prompt: Option<String>,
    /// The prompt is a message of a conversation, put into the model's chat template (the default).
    #[arg(long, conflicts_with = "raw")]
    pub(crate) chat: bool,
    /// The prompt is text to go on with, as it is.
    #[arg(long, conflicts_with = "system")]
    pub(crate) raw: bool,
    /// A system message before the prompt.
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Longest answer in tokens.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_tokens: Option<u32>,
    /// From 0 (always the most likely token) to 2.
    #[arg(long)]
    pub(crate) temperature: Option<f32>,
    /// Smallest set of tokens whose probabilities add up to this.
    #[arg(long)]
    pub(crate) top_p: Option<f32>,
    /// The K most likely tokens; 0 for all.
    #[arg(long)]
    pub(crate) top_k: Option<u32>,
    /// Tokens at least this likely, relative to the most likely one.
    #[arg(long)]
    pub(crate) min_p: Option<f32>,
    /// Text that ends the answer; may be given more than once.
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// The generation ends after this time, for example 30s.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

/// Arguments of `tokenize`.
#[derive(Debug, Args)]
pub(crate) struct TokenizeArgs {
    /// Id of the model.
    pub(crate) model: String,
    /// The text. Read from standard input when it is "-" or missing.
    pub(crate) text: Option<String>,
    /// Add the tokens that the tokenizer puts around a text.
    #[arg(long)]
    pub(crate) add_special_tokens: bool,
}

/// Arguments of `detokenize`.
#[derive(Debug, Args)]
pub(crate) struct DetokenizeArgs {
    /// Id of the model.
    pub(crate) model: String,
    /// The tokens.
    #[arg(required = true)]
    pub(crate) token_ids: Vec<u32>,
    /// Leave out tokens such as that of a text's end.
    #[arg(long)]
    pub(crate) skip_special_tokens: bool,
}

/// Arguments of `health`.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// What to ask for.
    #[arg(default_value = "readiness")]
    pub(crate) service: String,
}

impl Command {
    /// Name of the command, and the model that it is about.
    pub(crate) fn subject(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Info(args) => ("info", args.model.as_deref()),
            Self::Load(args) => ("load", args.model.as_deref()),
            Self::Unload(args) => ("unload", args.model.as_deref()),
            Self::Watch(_) => ("watch", None),
            Self::Generate(args) => ("generate", Some(&args.model)),
            Self::Tokenize(args) => ("tokenize", Some(&args.model)),
            Self::Detokenize(args) => ("detokenize", Some(&args.model)),
            Self::Health(_) => ("health", None),
        }
    }
}

impl From<DataType> for v1::DataType {
    fn from(dtype: DataType) -> Self {
        match dtype {
            DataType::F32 => Self::F32,
            DataType::F16 => Self::F16,
            DataType::Bf16 => Self::Bf16,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_target_is_required() {
        assert!(Cli::try_parse_from(["hangarctl", "unload"]).is_err());
        assert!(Cli::try_parse_from(["hangarctl", "unload", "--all"]).is_ok());
        assert!(Cli::try_parse_from(["hangarctl", "load", "m", "--path", "/m", "--demo"]).is_err());
    }
}
