//! Why a load or a worker failed.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// A failure of a model, for its status and for those who wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable name of the cause.
    pub reason: Reason,
    /// In words, with what to do about it.
    pub message: String,
    /// What it is about, where that is worth a name: a device, a library, the memory of one device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// Causes of a model's failure; each is the name of a value of `hangar.v1.ErrorReason`.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// Files missing, corrupt or not supported, or the loaded model cannot answer.
    ModelUnusable,
    /// The source lies outside the allowed roots.
    SourceNotAllowed,
    /// The device, its driver or a library of it is missing.
    DeviceUnavailable,
    /// The model does not fit.
    InsufficientMemory,
    /// The disk is full.
    StorageFull,
    /// The worker process died.
    WorkerDied,
    /// The worker made no step for too long.
    WorkerHung,
    /// The load did not end within its time.
    LoadTimeout,
    /// The load made no progress for too long.
    LoadStalled,
    /// An unload ended the load.
    LoadCancelled,
    /// The model was unloaded while a request ran or waited.
    ModelUnloaded,
    /// The server is shutting down.
    ShuttingDown,
    /// The worker process was killed but could not be reaped; nothing of it can be reused.
    Unreaped,
    /// The worker has gone, and its device's memory was not seen to come back.
    DeviceMemoryHeld,
    /// The file system of the model's files does not answer.
    FilesUnavailable,
    /// The model hub cannot be reached.
    HubUnavailable,
    /// The model hub refused.
    HubDenied,
    /// The model cannot do what was asked.
    UnsupportedByModel,
    /// The server's own disk or memory failed it, or a task of its own panicked.
    Internal,
}

impl Failure {
    /// A failure with `reason` and `message`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            subject: None,
        }
    }

    /// The failure of a model that lost a task which saw to it: to a panic, which the server's log has.
    pub fn of_panicked_task() -> Self {
        Self::new(
            Reason::Internal,
            "a fault of the server ended a task that saw to this model, and its worker was killed; load the model again, \
             and report what the server's log says",
        )
    }

    /// This failure, which is about `subject`.
    #[must_use]
    pub fn about(self, subject: impl Into<String>) -> Self {
        Self {
            subject: Some(subject.into()),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.message)
    }
}

impl Reason {
    /// The name that goes over the wire.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The cause as callers see it: what became of a worker that is on its way out is the same to them.
    #[must_use]
    pub fn public(self) -> Self {
        match self {
            Self::Unreaped | Self::DeviceMemoryHeld => Self::WorkerHung,
            other => other,
        }
    }

    /// The cause of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Whether another attempt may succeed without anybody doing anything.
    pub fn is_transient(self) -> bool {
        match self {
            Self::WorkerDied | Self::WorkerHung | Self::LoadStalled => true,
            Self::HubUnavailable | Self::FilesUnavailable => true,
            Self::ModelUnusable | Self::SourceNotAllowed | Self::DeviceUnavailable => false,
            Self::InsufficientMemory | Self::StorageFull | Self::LoadTimeout => false,
            Self::LoadCancelled | Self::ModelUnloaded | Self::ShuttingDown => false,
            Self::Unreaped | Self::DeviceMemoryHeld | Self::HubDenied => false,
            Self::UnsupportedByModel | Self::Internal => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn names_are_unique_and_read_back() {
        for reason in Reason::VARIANTS {
            assert_eq!(Reason::from_name(reason.name()), Some(*reason));
            let stored = serde_json::to_string(reason).expect("a string");
            assert_eq!(stored, format!("{:?}", reason.name()));
        }
        assert_eq!(Reason::DeviceMemoryHeld.name(), "DEVICE_MEMORY_HELD");
        assert_eq!(Reason::from_name("NOPE"), None);
    }
}
