//! The secret that the hub knows this server by.

use std::{fmt, path::PathBuf};

use reqwest::header::HeaderValue;

use super::DownloadError;

/// Where the token is. It is never shown, neither in the log nor in a debug output.
#[derive(Clone, PartialEq, Eq)]
pub enum HubToken {
    /// In a file, read anew for each download: it may be replaced while the server runs.
    File(PathBuf),
    /// Here.
    Value(String),
}

impl HubToken {
    /// The value of the authorization header, marked as secret. `None` when the file is empty.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, DownloadError> {
        let read;
        let text = match self {
            Self::Value(text) => text,
            Self::File(path) => {
                read = tokio::fs::read_to_string(path).await.map_err(|error| {
                    DownloadError::Unusable(format!(
                        "the hub's token cannot be read from {}: {error}; check --hub-token-file",
                        path.display()
                    ))
                })?;
                &read
            }
        };
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| {
            DownloadError::Unusable(
                "the hub's token has characters that no token has; check --hub-token-file"
                    .to_owned(),
            )
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl fmt::Debug for HubToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(…)"),
        }
    }
}
