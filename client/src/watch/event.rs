//! What a watch gives.

use std::time::{Duration, SystemTime};

use crate::{
    error::Error,
    v1::{ModelChanged, ModelStatus, SwitchInfo},
};

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WatchEvent {
    /// The models as they stand. Comes first, and again wherever continuity was lost.
    Snapshot {
        /// All models, or those that are watched.
        models: Vec<ModelStatus>,
        /// Continuity was lost: forget what was known. A model that is not listed is gone.
        reset: bool,
    },
    /// A model came into a state.
    Transition {
        /// Position in the sequence of all models' transitions.
        revision: u64,
        /// The status after it.
        status: ModelStatus,
    },
    /// A load went on.
    Progress {
        /// The status with its progress.
        status: ModelStatus,
    },
    /// A model's spec, its aliases or something newer than this client changed; `kind` says what.
    Changed(Box<ModelChanged>),
    /// A model is no longer registered.
    Removed {
        /// Position in the sequence of all models' transitions.
        revision: u64,
        /// The model.
        model_id: String,
    },
    /// A switch of an alias began or ended.
    Switched {
        /// Position in the sequence of all models' transitions.
        revision: u64,
        /// The switch after it.
        switch: Box<SwitchInfo>,
    },
    /// Nothing happened for a while.
    Heartbeat {
        /// The server's time.
        time: Option<SystemTime>,
    },
    /// The connection was lost or could not be made. The watch goes on by itself after `retry_in`.
    Disconnected {
        /// What happened to it.
        error: Error,
        /// Time until the next try.
        retry_in: Duration,
    },
}
