//! Prepared weights: quantized once, kept in a directory of the server's, read by later loads.
//!
//! An entry is a directory named by its key, with the engine's files (UQFF and what is left unquantized)
//! and a manifest. It appears by a rename when it is whole. The key covers everything that the weights in
//! it depend on, so an entry is never changed: what does not fit its manifest is no entry. Nothing here
//! fails a load: without an entry the weights are quantized anew.

mod digest;
mod draft;
mod entry;
mod key;
mod location;
mod manifest;

use std::path::{Path, PathBuf};

pub(crate) use draft::EntryDraft;
pub(crate) use entry::PreparedEntry;
use hangar_client::v1::{DataType, ModelSpec};
use hangar_worker_protocol::v1::{PreparedWeights, WorkerConfig};
pub(crate) use key::Key;
use key::KeyInputs;
pub(crate) use location::EntryLocation;

use crate::quantization::Quantization;

/// What there is for a load.
#[derive(Debug, Clone)]
pub(crate) enum Prepared {
    /// The load does not ask for any.
    NotAsked,
    /// The engine was seen to fail with what it had written for this load.
    Useless(EntryLocation),
    /// An entry.
    Hit(Box<PreparedEntry>),
    /// No entry that can be used.
    Miss(EntryLocation),
}

/// What a configuration says of prepared weights.
struct CacheSettings<'a> {
    directory: &'a str,
    capacity: u64,
    verified: &'a [String],
    device: &'a str,
    spec: &'a ModelSpec,
}

impl<'a> CacheSettings<'a> {
    /// What `config` says. `None` where it asks for none, or for weights that are not worth keeping.
    fn of(config: &'a WorkerConfig) -> Option<Self> {
        let spec = config.spec();
        // Adapters are merged into the weights, and come in too many combinations to be worth keeping.
        let wanted = !config.prepared_dir.is_empty() && spec.adapters.is_empty();
        wanted.then(|| Self {
            directory: &config.prepared_dir,
            capacity: config.prepared_capacity,
            verified: &config.prepared_verified,
            device: &config.device,
            spec,
        })
    }
}

impl Prepared {
    /// Looks for an entry for weights in these files.
    pub(crate) fn look_up(
        config: &WorkerConfig,
        model: &Path,
        weights: &[PathBuf],
        dtype: DataType,
        quantization: Quantization,
    ) -> Self {
        let Some(order) = CacheSettings::of(config) else {
            return Self::NotAsked;
        };
        let made_from = KeyInputs {
            device: order.device,
            dtype,
            quantization,
            spec: order.spec,
        };
        let key = match Key::of(model, weights, made_from) {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(%error, "the weights cannot be distinguished from others and are not prepared");
                return Self::NotAsked;
            }
        };
        let location = EntryLocation {
            root: PathBuf::from(order.directory),
            key,
            capacity: order.capacity,
        };
        let verified = order.verified.contains(&location.key.to_string());
        match PreparedEntry::open(&location, verified) {
            Ok(Some(entry)) if entry.is_useless() => Self::Useless(location),
            Ok(Some(entry)) => Self::Hit(Box::new(entry)),
            Ok(None) => Self::Miss(location),
            Err(why) => {
                tracing::warn!(key = %location.key, why, "prepared weights cannot be used");
                Self::Miss(location)
            }
        }
    }

    /// For the ready message.
    pub(crate) fn to_message(&self) -> PreparedWeights {
        match self {
            Self::NotAsked | Self::Useless(_) => PreparedWeights::Unspecified,
            Self::Hit(_) => PreparedWeights::Hit,
            Self::Miss(_) => PreparedWeights::Miss,
        }
    }

    /// Name of the entry; empty where none is asked for.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::NotAsked => String::new(),
            Self::Hit(entry) => entry.location().key.to_string(),
            Self::Useless(location) | Self::Miss(location) => location.key.to_string(),
        }
    }
}
