//! What is remembered of a load that has ended.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

use super::{Failure, LoadId};

/// A load that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadRecord {
    /// The load.
    pub load_id: LoadId,
    /// How it ended.
    pub outcome: LoadOutcome,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Attempts that it took.
    pub attempts: u32,
}

/// How a load ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, EnumDiscriminants)]
#[serde(rename_all = "snake_case")]
#[strum_discriminants(
    name(LoadOutcomeKind),
    doc = "How a load, or a phase of one, ended, without a reason.",
    derive(IntoStaticStr, VariantArray),
    strum(serialize_all = "snake_case")
)]
pub enum LoadOutcome {
    /// The model became READY.
    Succeeded,
    /// The model became FAILED.
    Failed(Failure),
    /// An unload ended it.
    Cancelled,
}
