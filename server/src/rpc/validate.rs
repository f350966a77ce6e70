//! What all calls check of their requests. All that is wrong with one is reported at once, as far as it fits.

use hangar_client::v1;

use super::error::ApiError;
use crate::model::ModelId;
pub(super) use crate::wire::{MAX_REQUEST_ID, Violations};

/// The id in `field`, which has to be there.
pub(super) fn model_id(field: &str, id: &str) -> Result<ModelId, ApiError> {
    let mut violations = Violations::default();
    let id = violations.model_id(field, id);
    violations.finish()?;
    id.ok_or_else(|| ApiError::invalid(field, "is required"))
}

/// Fields that this server knows and cannot honour.
pub(super) fn refuse(fields: &[(&str, bool)]) -> Result<(), ApiError> {
    match fields.iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(ApiError::NotImplemented((*field).to_owned())),
        None => Ok(()),
    }
}

/// Refuses what this server knows and cannot honour.
///
/// # Errors
///
/// The first such field.
pub(super) fn refuse_later_fields(spec: &v1::ModelSpec) -> Result<(), ApiError> {
    let later_kind = !matches!(
        spec.kind(),
        v1::ModelKind::Unspecified
            | v1::ModelKind::Text
            | v1::ModelKind::Multimodal
            | v1::ModelKind::Embedding
    );
    refuse(&[
        ("spec.kind", later_kind),
        ("spec.format", spec.format() == v1::ModelFormat::Uqff),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let spec = v1::ModelSpec {
            format: v1::ModelFormat::Uqff.into(),
            ..v1::ModelSpec::default()
        };
        match refuse_later_fields(&spec) {
            Err(ApiError::NotImplemented(field)) => assert_eq!(field, "spec.format"),
            other => panic!("{other:?}"),
        }
    }
}
