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
        /// The status after it, with its new generation.
        status: ModelStatus,
    },
    /// A load went on.
    Progress {
        /// The status, whose `progress` alone is newer. Some are left out where they come quickly.
        status: ModelStatus,
    },
    /// A model's spec, its aliases or something newer than this client changed; `kind` says what.
    Changed(Box<ModelChanged>),
    /// A model is no longer registered.
    Removed {
        /// Position in the sequence of all models' transitions.
        revision: u64,
        /// Its id. A model of that id which is registered afterwards is another one.
        model_id: String,
    },
    /// A switch of an alias began or ended.
    Switched {
        /// Position in the sequence of all models' transitions.
        revision: u64,
        /// The switch as it is now: under way, or with its outcome.
        switch: Box<SwitchInfo>,
    },
    /// Nothing happened for a while.
    Heartbeat {
        /// The server's clock. `None`: the server does not say.
        time: Option<SystemTime>,
    },
    /// The connection was lost or could not be made. The watch goes on by itself after `retry_in`.
    Disconnected {
        /// Why it was lost or could not be made.
        error: Error,
        /// Time until the next try, which begins by itself.
        retry_in: Duration,
    },
}
