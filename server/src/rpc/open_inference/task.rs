//! What models are for.

use hangar_client::inference::{ModelConfig, ModelMetadataResponse, ModelTransactionPolicy};

use super::{
    conventions::{PLATFORM, Tensor, inputs, outputs},
    embedding,
    named_model::NamedModel,
};
use crate::{
    model::{Failure, ModelKind, Reason},
    rpc::error::ApiError,
};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelTask {
    /// Text in, text out, by the conventions of Triton's vLLM backend.
    Generate,
    /// Texts in, vectors out.
    Embed,
}

impl ModelTask {
    /// What a model of this `kind` is for.
    ///
    /// # Errors
    ///
    /// When this protocol does not serve such models.
    pub(super) fn of(kind: ModelKind) -> Result<Self, ApiError> {
        match kind {
            ModelKind::Text | ModelKind::Multimodal => Ok(Self::Generate),
            ModelKind::Embedding => Ok(Self::Embed),
            ModelKind::Image | ModelKind::Speech => Err(ApiError::Failed(Failure::new(
                Reason::UnsupportedByModel,
                "the Open Inference Protocol serves models that give text or vectors; this one does not",
            ))),
        }
    }

    /// What the model `named` is for.
    ///
    /// # Errors
    ///
    /// As [`Self::of`], and when that is not known.
    pub(super) fn of_model(named: &NamedModel) -> Result<Self, ApiError> {
        let kind = named.kind.kind().ok_or_else(|| ApiError::NotLoaded {
            model: named.id.to_string(),
            why: Some("its kind is known once it was loaded".to_owned()),
        })?;
        Self::of(kind)
    }

    /// What ModelMetadata says of a model for this task.
    pub(super) fn metadata(self, named: &NamedModel) -> ModelMetadataResponse {
        if self == Self::Embed {
            return embedding::metadata(named);
        }
        let metadata = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::metadata).collect();
        ModelMetadataResponse {
            name: named.id.to_string(),
            versions: vec![named.version.to_string()],
            platform: PLATFORM.to_owned(),
            inputs: metadata(inputs()),
            outputs: metadata(outputs()),
        }
    }

    /// What ModelConfig says of a model for this task.
    pub(super) fn config(self, named: &NamedModel) -> ModelConfig {
        if self == Self::Embed {
            return embedding::config(named);
        }
        ModelConfig {
            name: named.id.to_string(),
            platform: PLATFORM.to_owned(),
            max_batch_size: 0,
            input: inputs().iter().map(Tensor::input).collect(),
            output: outputs().iter().map(Tensor::output).collect(),
            backend: PLATFORM.to_owned(),
            model_transaction_policy: Some(ModelTransactionPolicy { decoupled: true }),
        }
    }
}
