//! What the protocol's calls share: the models that they name, and what they ask of them.

mod repository;
mod statistics;

use std::sync::Arc;

use hangar_client::inference::{ModelInferRequest, ModelInferResponse};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    embedding::{self, EmbeddingRequest},
    named_model::NamedModel,
    task::ModelTask,
    text_request::TextRequest,
};
use crate::{
    lifecycle::{Fleet, KnownKind},
    model::{Failure, Operation},
    rpc::{
        deadline::Deadline, detached_calls::DetachedCalls, embed, error::ApiError,
        health::HealthSource, model_service::ModelApiOptions, validate::model_id,
    },
};

/// Implements GRPCInferenceService.
#[derive(Clone)]
pub struct OpenInferenceApi {
    pub(super) fleet: Arc<Fleet>,
    pub(super) options: ModelApiOptions,
    pub(super) health: Arc<dyn HealthSource>,
    pub(super) loads: DetachedCalls,
    pub(super) unloads: DetachedCalls,
    pub(super) stop: CancellationToken,
}

/// What a request asks for.
pub(super) enum TaskRequest {
    Text(Box<TextRequest>),
    Vectors(EmbeddingRequest),
}

impl OpenInferenceApi {
    /// Uses the models of `fleet`, loads and unloads them within the times of `options`, and is as ready as
    /// `health` says. Streams take no more requests once `stop` fires.
    pub fn new(
        fleet: Arc<Fleet>,
        options: ModelApiOptions,
        health: Arc<dyn HealthSource>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            loads: DetachedCalls::new(fleet.tasks()),
            unloads: DetachedCalls::new(fleet.tasks()),
            fleet,
            options,
            health,
            stop,
        }
    }

    /// The model that `name` in `field` stands for, if it has this `version`.
    pub(super) async fn named(
        &self,
        field: &str,
        name: &str,
        version: &str,
    ) -> Result<NamedModel, ApiError> {
        let requested_name = model_id(field, name)?;
        let model = self.fleet.tracked(&requested_name);
        let named = match &model {
            Some(model) => {
                let facts = model.facts();
                NamedModel {
                    requested_name,
                    id: facts.entry.id.clone(),
                    version: facts.entry.version,
                    kind: model.kind(),
                    embedding_size: facts.learned.metadata.embedding_size,
                    model: Some(model.clone()),
                }
            }
            None => {
                let entry = self.fleet.find(&requested_name).await?;
                NamedModel {
                    requested_name,
                    version: entry.version,
                    kind: KnownKind::of_entry(&entry),
                    embedding_size: entry.learned.metadata.embedding_size,
                    id: entry.id,
                    model: None,
                }
            }
        };
        if !version.is_empty() && version != named.version.to_string() {
            return Err(ApiError::UnknownVersion {
                model: named.id.to_string(),
                version: named.version,
            });
        }
        Ok(named)
    }

    /// What `request` asks for, whose caller gives up at `deadline`.
    pub(super) async fn parse_request(
        &self,
        request: ModelInferRequest,
        deadline: Option<Deadline>,
    ) -> Result<TaskRequest, ApiError> {
        let version = &request.model_version;
        let named = self.named("model_name", &request.model_name, version);
        let named = named.await?;
        // A model whose kind is not known is taken at its word: the worker says what it cannot do.
        let wanted = match embedding::is_wanted(&request) {
            true => ModelTask::Embed,
            false => ModelTask::Generate,
        };
        let task = named.kind.kind().map_or(Ok(wanted), ModelTask::of)?;
        if wanted == ModelTask::Embed {
            // Before it is read by the conventions of another task.
            let checked = named.kind.check(Operation::Embeddings);
            checked.map_err(|failure| {
                // What a caller of this protocol can ask for.
                let message = "this model gives no vectors; ask it for text_output, or load an embedding model";
                ApiError::Failed(Failure::new(failure.reason, message))
            })?;
        }
        match task {
            ModelTask::Generate => {
                let request = TextRequest::parse(request, named, deadline)?;
                Ok(TaskRequest::Text(request.into()))
            }
            ModelTask::Embed => {
                let request = EmbeddingRequest::parse(request, named, deadline)?;
                Ok(TaskRequest::Vectors(request))
            }
        }
    }

    /// The vectors that `request` wants.
    pub(super) async fn vectors(
        &self,
        request: EmbeddingRequest,
    ) -> Result<ModelInferResponse, Status> {
        let vectors = embed::embed(&self.fleet, request.embed).await?;
        Ok(request.form.response(vectors))
    }
}
