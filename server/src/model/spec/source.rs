//! Where a model's files are.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::HubRepository;

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A directory or a GGUF file.
    Path(PathBuf),
    /// A repository of the Hugging Face hub.
    HuggingFace(HubSource),
    /// The model that is built into the worker.
    Demo,
}

/// A repository of the Hugging Face hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// Which one.
    pub repository: HubRepository,
    /// Branch, tag or commit.
    #[serde(default = "main_revision")]
    pub revision: String,
    /// Only these files; empty: all that loading needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::HuggingFace(hub) => write!(f, "{} at {}", hub.repository, hub.revision),
            Self::Demo => f.write_str("built-in demo model"),
        }
    }
}

fn main_revision() -> String {
    "main".to_owned()
}
