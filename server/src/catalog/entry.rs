//! What is known of a registered model.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};
use uuid::Uuid;

use super::LearnedPrompts;
use crate::model::{
    DeviceName, Etag, Failure, LoadId, LoadRecord, ModelId, ModelMemory, ModelMetadata, Pace, Spec,
    Suspension, optional_text,
};

/// A registered model.
#[derive(Clone, Debug)]
pub struct CatalogEntry {
    /// The model.
    pub id: ModelId,
    /// Distinguishes it from an earlier one of the same id.
    pub uid: Uuid,
    /// How it is to be run.
    pub spec: Arc<Spec>,
    /// Rises by one with each change of the spec, from 1.
    pub version: u64,
    /// Strong validator of the uid and the spec.
    pub etag: Etag,
    /// When it was registered.
    pub created: SystemTime,
    /// When the spec was changed last.
    pub updated: SystemTime,
    /// Where it comes from.
    pub origin: ModelOrigin,
    /// Other names of it, in order.
    pub aliases: Vec<ModelId>,
    /// Whether it is to be loaded.
    pub desired: bool,
    /// Why it is not loaded although it is to be.
    pub suspended: Option<Suspension>,
    /// An attempt to load it that was begun and of which no end is known.
    pub attempt: Option<LoadAttempt>,
    /// What earlier loads have taught.
    pub learned: LearnedFacts,
}

/// A model to be registered.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Its id.
    pub id: ModelId,
    /// How it is to be run.
    pub spec: Spec,
    /// Other names of it.
    pub aliases: Vec<ModelId>,
    /// Where it comes from.
    pub origin: ModelOrigin,
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ModelOrigin {
    /// A call.
    Api,
    /// The configuration file.
    File,
}

/// An attempt to load a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadAttempt {
    /// The load.
    pub load_id: LoadId,
    /// Which attempt of it, from 1.
    pub number: u32,
}

/// What earlier loads of a model have taught. Goes with the entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LearnedFacts {
    /// What its files and its engine report.
    pub metadata: ModelMetadata,
    /// What its worker held.
    pub memory: Option<LearnedMemory>,
    /// The last loads, newest first.
    pub recent_loads: VecDeque<LoadRecord>,
    /// Loads that succeeded.
    pub loads_succeeded: u64,
    /// Loads that failed.
    pub loads_failed: u64,
    /// The last failure, and when that was.
    pub last_failure: Option<(Failure, SystemTime)>,
    /// When the last request came, as of the end of the last load.
    pub last_used: Option<SystemTime>,
    /// How quickly the engine works that the spec makes.
    pub pace: Option<LearnedPace>,
    /// What happened to the prompts of that engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<LearnedPrompts>,
}

/// Loads that are remembered.
const RECENT_LOADS: usize = 8;

impl ModelOrigin {
    /// How the table names it.
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

impl LearnedFacts {
    /// Takes note of how a load ended.
    pub fn record(&mut self, record: &LoadRecord) {
        self.recent_loads.push_front(record.clone());
        self.recent_loads.truncate(RECENT_LOADS);
    }
}

/// How quickly the engine of a model was seen to work, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LearnedPace {
    /// The pace.
    #[serde(flatten)]
    pub pace: Pace,
    /// The device that it was on; `None`: nobody has noted it.
    #[serde(with = "optional_text")]
    pub device: Option<DeviceName>,
    /// Processors that there were.
    pub processors: u32,
}

/// What the worker of a model held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnedMemory {
    /// Once it was READY.
    pub ready: ModelMemory,
    /// At most until then.
    pub peak: ModelMemory,
    /// The spec that it was built from.
    pub spec: Spec,
    /// The device that it was on; one that nobody has noted was the CPU.
    #[serde(default)]
    pub device: DeviceName,
}

impl LearnedPace {
    /// Whether an engine on `device` beside so many processors is expected to work as quickly.
    pub fn is_of(&self, device: &DeviceName, processors: u32) -> bool {
        self.device.as_ref() == Some(device) && self.processors == processors
    }
}

impl LearnedMemory {
    /// Whether a model of `spec` on `device` is expected to hold the same.
    pub fn is_of(&self, spec: &Spec, device: &DeviceName) -> bool {
        // On a GPU the cache for all requests is taken at once.
        let as_many =
            self.spec.max_concurrency == spec.max_concurrency || *device == DeviceName::Cpu;
        self.device == *device && as_many && self.spec.builds_the_same_as(spec)
    }
}
