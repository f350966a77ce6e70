//! Arguments of `switch`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use hangar_client::v1;

use super::spec::SpecArgs;

/// Arguments of `switch`.
#[derive(Debug, Args)]
pub(crate) struct SwitchArgs {
    /// The alias to move; one that does not exist is created.
    pub(crate) alias: String,
    /// The model that it is to point at.
    pub(crate) model: String,
    /// In which order to load and unload.
    #[arg(long, value_enum, default_value_t = Strategy::Auto)]
    pub(crate) strategy: Strategy,
    /// Wait until the switch has ended, and show how far it is.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long requests that the old model runs may go on, for example 5s; the server's default is 30s.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) drain_timeout: Option<Duration>,
    /// The load of the new model fails after this time, for example 10m; the server's default is 5m.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
    /// Only check, and tell the strategy that would be chosen.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
}

/// In which order to load and unload.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Strategy {
    /// load-first if both models fit, else unload-first.
    Auto,
    /// The old model serves until the new one is READY.
    LoadFirst,
    /// The old model makes room before the new one is loaded.
    UnloadFirst,
}

impl From<Strategy> for v1::SwitchStrategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Auto => Self::Auto,
            Strategy::LoadFirst => Self::LoadFirst,
            Strategy::UnloadFirst => Self::UnloadFirst,
        }
    }
}
