//! Arguments of `session`.

use std::time::Duration;

use clap::{Args, Subcommand};

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Open a session and write its id; it lapses unless it is kept alive.
    Create(CreateArgs),
    /// Start a session's time to live anew.
    #[command(name = "keepalive", visible_alias = "keep-alive")]
    KeepAlive(SessionArgs),
    /// End a session; models that nobody else holds are unloaded.
    Close(SessionArgs),
    /// Show what a session holds and when it lapses; does not keep it alive.
    Get(SessionArgs),
}

/// Arguments of `session create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// How long it lives after it was opened or kept alive, from 1s to 24h.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "60s", value_name = "DURATION")]
    pub(crate) ttl: Duration,
    /// What others see the session by: at most 63 letters, digits and ._- [default: none].
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) name: String,
}

/// The session of a command.
#[derive(Debug, Args)]
pub(crate) struct SessionArgs {
    /// Id of the session: a secret. Others on the machine see arguments, but not the variable.
    #[arg(env = "HANGAR_SESSION", hide_env_values = true)]
    pub(crate) session: String,
}

impl SessionCommand {
    /// Name of the command.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "session create",
            Self::KeepAlive(_) => "session keepalive",
            Self::Close(_) => "session close",
            Self::Get(_) => "session get",
        }
    }
}
