//! LoRA adapters.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::text::{deserialize_from_text, serialize_to_text};

/// A LoRA adapter that is merged into a model's weights while they are loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Adapter {
    /// Its name among the adapters of the model.
    pub name: AdapterName,
    /// Where it is.
    pub source: AdapterSource,
}

/// Name of an adapter: at most 64 letters, digits and any of "._-", a letter or a digit first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterName(String);

/// A text that names no adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 64 letters, digits and any of ._-, a letter or a digit first")]
pub struct InvalidAdapterName;

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
    name: AdapterName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    demo: bool,
}

/// Longest name in bytes.
const MAX_NAME: usize = 64;

deserialize_from_text!(AdapterName);
serialize_to_text!(AdapterName);

impl FromStr for AdapterName {
    type Err = InvalidAdapterName;

    fn from_str(name: &str) -> Result<Self, InvalidAdapterName> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=MAX_NAME).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(known);
        match is_name {
            true => Ok(Self(name.to_owned())),
            false => Err(InvalidAdapterName),
        }
    }
}

impl fmt::Display for AdapterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Adapter {
    /// The adapter in the directory `path`.
    #[cfg(test)]
    pub fn at(name: &str, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.parse().expect("a name"),
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

    #[bounded::test]
    fn an_adapter_is_stored_with_its_path_or_as_the_built_in_one() {
        let built_in = Adapter {
            name: "b".parse().expect("a name"),
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
            r#"{"name":"-a","path":"/a"}"#,
            r#"{"name":"a","path":"/a","demo":true}"#,
            r#"{"name":"a","path":"/a","weight":2}"#,
        ] {
            assert!(serde_json::from_str::<Adapter>(json).is_err(), "{json}");
        }
    }
}
