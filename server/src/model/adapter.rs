//! LoRA adapters.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A LoRA adapter that is merged into a model's weights while they are loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Adapter {
    /// Name to show.
    pub name: String,
    /// Where it is.
    pub source: AdapterSource,
}

/// Where an adapter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdapterSource {
    /// In this directory.
    Path(PathBuf),
    /// In the worker, for the demo model.
    Demo,
}

/// An adapter as it stands in the catalog and in the configuration file: with either `path` or `demo`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    demo: bool,
}

impl Adapter {
    /// The adapter in the directory `path`.
    pub fn at(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            source: AdapterSource::Path(path.into()),
        }
    }

    /// Its directory; `None` for the one that is built in.
    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            AdapterSource::Path(path) => Some(path),
            AdapterSource::Demo => None,
        }
    }

    /// As [`Self::path`], to be changed.
    pub fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match &mut self.source {
            AdapterSource::Path(path) => Some(path),
            AdapterSource::Demo => None,
        }
    }
}

impl TryFrom<Stored> for Adapter {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let source = match (stored.path, stored.demo) {
            (Some(path), false) => AdapterSource::Path(path),
            (None, true) => AdapterSource::Demo,
            _ => return Err("an adapter has either path or demo = true".to_owned()),
        };
        Ok(Self {
            name: stored.name,
            source,
        })
    }
}

impl From<Adapter> for Stored {
    fn from(adapter: Adapter) -> Self {
        let (path, demo) = match adapter.source {
            AdapterSource::Path(path) => (Some(path), false),
            AdapterSource::Demo => (None, true),
        };
        Self {
            name: adapter.name,
            path,
            demo,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_stored_with_its_path_or_as_the_built_in_one() {
        let built_in = Adapter {
            name: "b".to_owned(),
            source: AdapterSource::Demo,
        };
        for (adapter, json) in [
            (Adapter::at("a", "/a"), r#"{"name":"a","path":"/a"}"#),
            (built_in, r#"{"name":"b","demo":true}"#),
        ] {
            let stored = serde_json::to_string(&adapter).expect("a string");
            assert_eq!(stored, json);
            let read: Adapter = serde_json::from_str(json).expect("an adapter");
            assert_eq!(read, adapter);
        }
        for json in [
            r#"{"name":"a"}"#,
            r#"{"name":"a","path":"/a","demo":true}"#,
            r#"{"name":"a","path":"/a","weight":2}"#,
        ] {
            assert!(serde_json::from_str::<Adapter>(json).is_err(), "{json}");
        }
    }
}
