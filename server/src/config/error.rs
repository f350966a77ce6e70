//! Why settings cannot be used.

use std::path::{Path, PathBuf};

/// Why the settings cannot be used. The text names the setting and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read or says something wrong.
    #[error("configuration file {}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A setting has a value that cannot be used.
    #[error("{key}: {message}")]
    Invalid {
        /// Name of the setting, as in the file.
        key: &'static str,
        /// What is wrong, and what to do.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn invalid(key: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid {
            key,
            message: message.into(),
        }
    }

    pub(super) fn file(path: &Path, message: impl ToString) -> Self {
        Self::File {
            path: path.to_owned(),
            message: message.to_string(),
        }
    }
}
