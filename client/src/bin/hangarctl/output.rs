//! Where results and failures are written, and in which form.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use hangar_client::Error;
use prost::Message;
use serde_json::json;

use crate::{args::Output, json, table::short};

/// Writes results to standard output.
pub(crate) struct Writer {
    output: Output,
}

/// Why a command did not succeed.
pub(crate) enum Failure {
    /// The call failed.
    Call(Error),
    /// Something is not as asked for; nothing more to say than this.
    Said(String),
    /// The arguments do not make sense together.
    Usage(String),
    /// Nobody reads the output any more, as with `| head`.
    Closed,
}

impl Writer {
    pub(crate) fn new(output: Output) -> Self {
        Self { output }
    }

    /// Whether programs read the output.
    pub(crate) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Writes a message as canonical protobuf JSON: on a terminal over several lines.
    pub(crate) fn message<M: Message>(&self, name: &str, message: &M) -> Result<(), Failure> {
        self.line(&json::to_string(name, message, io::stdout().is_terminal())?)
    }

    /// Writes a message of a stream as one line of JSON.
    pub(crate) fn message_line<M: Message>(&self, name: &str, message: &M) -> Result<(), Failure> {
        self.line(&json::to_string(name, message, false)?)
    }

    /// Writes a line.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        self.text(&format!("{text}\n"))
    }

    /// Writes text, at once.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        Ok(stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())?)
    }
}

impl Failure {
    /// Tells the failure on standard error.
    pub(crate) fn report(&self, writer: &Writer) {
        let message = match self {
            Self::Call(error) => error.to_string(),
            Self::Said(message) | Self::Usage(message) => message.clone(),
            Self::Closed => return,
        };
        let text = match self {
            Self::Call(error) if writer.is_json() => error_json(error, &message).to_string(),
            _ if writer.is_json() => json!({ "error": { "message": message } }).to_string(),
            _ => format!("error: {message}"),
        };
        // There is nowhere to tell that standard error cannot be written.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// The exit code of the command.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Call(Error::Unreachable { .. }) => 3,
            Self::Usage(_) | Self::Call(Error::Address { .. }) => 2,
            Self::Call(_) | Self::Said(_) => 1,
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
            _ => Self::Said(error.to_string()),
        }
    }
}

/// The text itself, or standard input when it is "-" or missing.
pub(crate) fn text_or_stdin(text: Option<String>) -> Result<String, Failure> {
    match text {
        Some(text) if text != "-" => Ok(text),
        _ => Ok(io::read_to_string(io::stdin())?),
    }
}

/// The text itself, or the contents of FILE when it is "@FILE".
pub(crate) fn text_or_file(text: String) -> Result<String, Failure> {
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map(|text| text.trim_end().to_owned())
            .map_err(|error| Failure::Usage(format!("{file} cannot be read: {error}"))),
        None => Ok(text),
    }
}

/// The contents of a file.
pub(crate) fn contents(file: impl AsRef<Path>) -> Result<Vec<u8>, Failure> {
    let file = file.as_ref();
    std::fs::read(file)
        .map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))
}

/// Whether nobody would see what is written to standard error.
pub(crate) fn is_unattended() -> bool {
    !io::stderr().is_terminal()
}
