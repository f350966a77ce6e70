//! Where results are written, and in which form.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use prost::Message;

pub(crate) use crate::failure::Failure;
use crate::{args::Output, json};

/// Writes results to standard output.
pub(crate) struct Writer {
    output: Output,
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
