//! What the spec asks for, held against what the files are.

use hangar_client::v1::{DataType, ModelKind};

use crate::{device::TargetDevice, failure::Failure};

/// Checks that the files hold a model of the kind that was asked for.
pub(super) fn check_kind_found(
    asked: ModelKind,
    found: ModelKind,
    what: &str,
) -> Result<(), Failure> {
    if asked == ModelKind::Unspecified || asked == found {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "The spec says that the model is of kind {}, but its files are those of kind {} ({what}). Correct \
         the kind or leave it out.",
        kind_name(asked),
        kind_name(found)
    )))
}

fn kind_name(kind: ModelKind) -> &'static str {
    kind.as_str_name()
        .strip_prefix("MODEL_KIND_")
        .unwrap_or("UNSPECIFIED")
}

pub(super) fn uqff() -> Failure {
    Failure::unusable(
        "UQFF files are not supported by this version of Hangar. Load the safetensors or the GGUF file \
         that they were made from.",
    )
}

/// The data type that was asked for, else one that the device computes well.
pub(super) fn choose_dtype(
    asked: DataType,
    device: &TargetDevice,
    stored_as_f32: bool,
) -> DataType {
    match asked {
        DataType::Unspecified => device.best_dtype(stored_as_f32),
        asked => asked,
    }
}

/// Length to serve: what was asked for, which the model has to allow; else all that it allows.
pub(super) fn choose_context_length(
    asked: u32,
    allowed: Option<u32>,
) -> Result<Option<u32>, Failure> {
    match (asked, allowed) {
        (0, allowed) => Ok(allowed),
        (asked, Some(allowed)) if asked > allowed => Err(Failure::unusable(format!(
            "The context length of {asked} tokens is more than the {allowed} that the model was made \
             for. Leave context_length out or set it to at most {allowed}."
        ))),
        (asked, _) => Ok(Some(asked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn weights_in_f32_stay_so_and_others_become_f16() {
        let choose = |asked, stored_as_f32| choose_dtype(asked, &TargetDevice::Cpu, stored_as_f32);
        assert_eq!(choose(DataType::Unspecified, true), DataType::F32);
        assert_eq!(choose(DataType::Unspecified, false), DataType::F16);
        assert_eq!(choose(DataType::Bf16, true), DataType::Bf16);
    }

    #[bounded::test]
    fn the_context_is_never_longer_than_the_model_allows() {
        assert_eq!(choose_context_length(0, Some(256)).ok(), Some(Some(256)));
        assert_eq!(choose_context_length(100, Some(256)).ok(), Some(Some(100)));
        assert!(choose_context_length(257, Some(256)).is_err());
    }
}
