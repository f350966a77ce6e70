//! Requests into domain types. All that is wrong with a request is reported at once, as far as it fits.

use hangar_client::v1;

use super::error::ApiError;
use crate::model::ModelId;
pub(super) use crate::wire::Violations;

/// Longest request id in bytes.
pub(super) const MAX_REQUEST_ID: usize = 128;

/// Aliases of a model.
const MAX_ALIASES: usize = 16;

impl Violations {
    /// Nothing, or all that is wrong.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let all = self.all();
        if all.is_empty() {
            Ok(())
        } else {
            Err(ApiError::Invalid(all))
        }
    }

    /// A model's id.
    pub(super) fn model_id(&mut self, field: &str, id: &str) -> Option<ModelId> {
        if id.is_empty() {
            self.add(field, "is required");
            return None;
        }
        self.note(field, ModelId::parse(id))
    }

    /// Other names of the model `id`.
    pub(super) fn aliases(
        &mut self,
        field: &str,
        aliases: &[String],
        id: Option<&ModelId>,
    ) -> Vec<ModelId> {
        self.check(
            aliases.len() <= MAX_ALIASES,
            field,
            "must have at most 16 entries",
        );
        let mut parsed = Vec::new();
        for (n, alias) in aliases.iter().take(MAX_ALIASES).enumerate() {
            let field = format!("{field}[{n}]");
            let Some(alias) = self.model_id(&field, alias) else {
                continue;
            };
            self.check(Some(&alias) != id, &field, "is the model's own id");
            self.check(!parsed.contains(&alias), &field, "is given twice");
            parsed.push(alias);
        }
        parsed
    }

    /// A request's id.
    pub(super) fn request_id(&mut self, id: &str) {
        self.check(
            id.len() <= MAX_REQUEST_ID,
            "request_id",
            "must have at most 128 characters",
        );
    }
}

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

    #[test]
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
