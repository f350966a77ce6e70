//! Switches of an alias from one model to another.

use std::{fmt, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Failure, ModelId};

/// A switch of an alias, as far as it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// The switch.
    pub id: SwitchId,
    /// The alias.
    pub alias: ModelId,
    /// Where it pointed; `None`: there was no such alias.
    pub from: Option<ModelId>,
    /// Where it is to point.
    pub to: ModelId,
    /// Order of loading and unloading.
    pub strategy: SwitchStrategy,
    /// How it ended; `None` while it is under way.
    pub outcome: Option<SwitchOutcome>,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: Option<SystemTime>,
}

/// One switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct SwitchId(Arc<str>);

/// In which order a switch loads and unloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchStrategy {
    /// The old model serves until the new one is READY.
    LoadFirst,
    /// The old model makes room before the new one is loaded.
    UnloadFirst,
}

/// How a switch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwitchOutcome {
    /// The alias points at the new model.
    Succeeded,
    /// The alias still points at the old model, which serves as before.
    RolledBack,
    /// The alias still points at the old model, but that could not be brought back.
    RollbackFailed,
}

impl Switch {
    /// The new model, and the old one where that is another.
    pub fn models(&self) -> impl Iterator<Item = &ModelId> {
        let old = self.from.iter().filter(|old| **old != self.to);
        std::iter::once(&self.to).chain(old)
    }
}

impl SwitchId {
    /// A new id; later ones sort behind earlier ones.
    pub fn random() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SwitchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for SwitchId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<SwitchId> for String {
    fn from(id: SwitchId) -> Self {
        id.0.as_ref().to_owned()
    }
}
