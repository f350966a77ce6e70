//! Why commands do not succeed, and how that is written.

use std::io::{self, Write};

use hangar_client::Error;
use serde_json::json;

use crate::table::short;

/// Why a command did not succeed.
pub(crate) enum Failure {
    /// The call failed.
    Call(Error),
    /// Something is not as asked for; nothing more to say than this.
    Message(String),
    /// The arguments do not make sense together.
    Usage(String),
    /// Nobody reads the output any more, as with `| head`.
    Closed,
}

impl Failure {
    /// Writes the failure to standard error.
    pub(crate) fn report(&self, as_json: bool) {
        let message = match self {
            Self::Call(error) => error.to_string(),
            Self::Message(message) | Self::Usage(message) => message.clone(),
            Self::Closed => return,
        };
        let text = match self {
            Self::Call(error) if as_json => error_json(error, &message).to_string(),
            _ if as_json => json!({ "error": { "message": message } }).to_string(),
            _ => format!("error: {message}"),
        };
        // There is nowhere to say that standard error cannot be written.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// The exit code of the command.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Call(Error::Unreachable { .. }) => 3,
            Self::Usage(_) | Self::Call(Error::Address { .. }) => 2,
            Self::Call(_) | Self::Message(_) => 1,
        }
    }
}

fn error_json(error: &Error, message: &str) -> serde_json::Value {
    let details = error.details();
    // A reason that this client does not know has a name all the same.
    let reason = details
        .and_then(|details| details.reason_name.as_deref())
        .or_else(|| Some(short(error.reason()?.as_str_name(), "ERROR_REASON_")));
    json!({
        "error": {
            "code": error.code_name(),
            "reason": reason,
            "message": message,
            "metadata": details.map(|details| &details.metadata),
            "retryAfterSeconds": error.retry_after().map(|delay| delay.as_secs_f64()),
        }
    })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Message(error.to_string()),
        }
    }
}
