//! Why a worker cannot serve its model.

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::v1::WorkerFailure;

/// Reasons that a worker gives: those of `hangar.v1.ErrorReason` with the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureReason {
    /// The model's files are missing, corrupt or not supported, or the loaded model cannot answer.
    ModelUnusable,
    /// The device is not there, or the worker cannot use it.
    DeviceUnavailable,
    /// The device has not enough memory.
    InsufficientMemory,
    /// The disk is full.
    StorageFull,
    /// The worker or its server did something wrong.
    Internal,
}

impl FailureReason {
    /// The name on the wire, which is that of `hangar.v1.ErrorReason` without its prefix.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl WorkerFailure {
    /// A failure for `reason`, with `message` in words.
    pub fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self {
            reason: reason.name().to_owned(),
            message: message.into(),
        }
    }

    /// The reason. One that is not known is taken for the model's fault, as most are.
    pub fn known_reason(&self) -> FailureReason {
        let reason = self.reason.parse();
        reason.unwrap_or(FailureReason::ModelUnusable)
    }
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::ErrorReason;
    use strum::VariantArray;

    use super::*;

    #[bounded::test]
    fn every_reason_is_one_of_the_api_and_survives_the_wire() {
        for reason in FailureReason::VARIANTS {
            let public = format!("ERROR_REASON_{}", reason.name());
            assert!(ErrorReason::from_str_name(&public).is_some(), "{public}");
            assert_eq!(WorkerFailure::new(*reason, "").known_reason(), *reason);
        }
    }

    #[bounded::test]
    fn an_unknown_reason_is_the_models_fault() {
        let failure = WorkerFailure {
            reason: "OUT_OF_TUNE".to_owned(),
            message: String::new(),
        };
        assert_eq!(failure.known_reason(), FailureReason::ModelUnusable);
    }
}
