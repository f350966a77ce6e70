//! Identifiers.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of a model: `[A-Za-z0-9][A-Za-z0-9._/-]{0,127}` without `..`, `//` or a trailing `/`.
///
/// Ids are compared as they are: those differing in case are different models.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelId(Arc<str>);

/// A text that is not the name of a model.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must match [A-Za-z0-9][A-Za-z0-9._/-]{{0,127}} without '..', '//' or a trailing '/'")]
pub struct InvalidModelId;

/// One load of a model, from its request to its outcome, all attempts included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct LoadId(Arc<str>);

/// Counts the transitions of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// Position in the sequence of all models' transitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// Identifies one run of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch(Arc<str>);

impl ModelId {
    /// Longest id in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks the form of `id`.
    ///
    /// # Errors
    ///
    /// When it has not the form that [`ModelId`] describes.
    pub fn parse(id: &str) -> Result<Self, InvalidModelId> {
        let head = id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let tail = id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
        let shape = !id.contains("..") && !id.contains("//") && !id.ends_with('/');
        if head && tail && shape && id.len() <= Self::MAX_LEN {
            Ok(Self(id.into()))
        } else {
            Err(InvalidModelId)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ModelId {
    type Error = InvalidModelId;

    fn try_from(id: String) -> Result<Self, InvalidModelId> {
        Self::parse(&id)
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl LoadId {
    /// A new id; later ones sort behind earlier ones.
    pub fn random() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LoadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for LoadId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<LoadId> for String {
    fn from(id: LoadId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl Generation {
    /// The one that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Revision {
    /// The one that follows.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Epoch {
    /// A new epoch.
    pub fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string().into())
    }

    /// The epoch as text: lower-case hexadecimal digits only.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn ids_of_users_and_of_hubs_are_accepted() {
        for id in [
            "demo",
            "Qwen/Qwen3-0.6B",
            "a",
            "0",
            "a.b_c-d",
            &"x".repeat(128),
        ] {
            assert_eq!(
                ModelId::parse(id).map(|id| id.to_string()),
                Ok(id.to_owned())
            );
        }
    }

    #[bounded::test]
    fn ids_of_wrong_form_are_refused() {
        let long = "x".repeat(129);
        for id in [
            "", ".a", "-a", "/a", "_a", "a/", "a//b", "a..b", "..", "a b", "é", "a\n", "a\0", &long,
        ] {
            assert_eq!(ModelId::parse(id), Err(InvalidModelId), "{id:?}");
        }
    }
}
