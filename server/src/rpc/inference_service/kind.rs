//! What models of each kind can do.

use crate::{
    lifecycle::{Model, Operation},
    model::{Failure, ModelKind, Reason, Stage},
    rpc::error::ApiError,
};

/// What a model is for, as its spec or, while it is READY, its files say.
pub(super) fn kind_of(model: &Model) -> Option<ModelKind> {
    let facts = model.facts();
    match model.status().stage {
        Stage::Ready => facts.learned.metadata.kind,
        _ => facts.entry.spec.kind,
    }
}

/// Refuses what a model of this kind cannot do. One whose kind is not known says so itself.
pub(super) fn check_kind(
    kind: Option<ModelKind>,
    operation: Option<Operation>,
) -> Result<(), ApiError> {
    let embeds = operation == Some(Operation::Embeddings);
    let what = match (kind, operation) {
        (None, _) | (_, None) => return Ok(()),
        (Some(ModelKind::Embedding), _) if embeds => return Ok(()),
        (Some(ModelKind::Embedding), _) => {
            "this model gives vectors and no text; use Embed, or load a text model"
        }
        (Some(_), _) if embeds => {
            "this model gives no vectors; use Generate, or load an embedding model"
        }
        (Some(_), _) => return Ok(()),
    };
    Err(ApiError::Failed(Failure::new(
        Reason::UnsupportedByModel,
        what,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_text_are_of_different_models() {
        use Operation::{Chat, Embeddings, TextCompletion};
        for (kind, operation, right) in [
            (None, Some(Embeddings), true),
            (None, Some(Chat), true),
            (Some(ModelKind::Embedding), None, true),
            (Some(ModelKind::Embedding), Some(Embeddings), true),
            (Some(ModelKind::Embedding), Some(Chat), false),
            (Some(ModelKind::Embedding), Some(TextCompletion), false),
            (Some(ModelKind::Text), Some(TextCompletion), true),
            (Some(ModelKind::Text), Some(Embeddings), false),
            (Some(ModelKind::Multimodal), Some(Embeddings), false),
        ] {
            let checked = check_kind(kind, operation).is_ok();
            assert_eq!(checked, right, "{kind:?} {operation:?}");
        }
    }
}
