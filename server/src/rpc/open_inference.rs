//! The Open Inference Protocol with Triton's repository, configuration and statistics extensions.
//!
//! It only translates: requests become those of `hangar.v1` and run by the same code, so that limits,
//! counters and errors are the same whichever protocol a client speaks.

mod answer;
mod ask;
mod embedding;
mod parallel;
mod repository;
mod sampling;
mod statistics;
mod task;
mod tensors;

use std::sync::Arc;

use answer::Answer;
use ask::ParsedRequest;
use futures::StreamExt;
use hangar_client::{
    inference::{
        ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
        ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
        ModelStatisticsRequest, ModelStatisticsResponse, RepositoryIndexRequest,
        RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
        RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest,
        ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest,
        ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
    },
    v1::generate_response::Event,
};
use parallel::Responses;
use task::ModelTask;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{
    ModelApiOptions,
    deadline::Deadline,
    embed,
    error::ApiError,
    generate::{self, Decoded},
    health::{HealthSource, READINESS},
    validate::model_id,
};
use crate::{
    config,
    lifecycle::{Fleet, Model},
    model::{Failure, ModelId, ModelKind, Reason, Stage},
};

/// Implements GRPCInferenceService.
#[derive(Clone)]
pub struct OpenInferenceApi {
    fleet: Arc<Fleet>,
    options: ModelApiOptions,
    health: Arc<dyn HealthSource>,
    stop: CancellationToken,
}

/// What a request asks for.
enum Asked {
    Text(Box<ParsedRequest>),
    Vectors(embedding::ParsedRequest),
}

/// A registered model that a request names.
struct Named {
    id: ModelId,
    version: u64,
    /// `None` until its first load has told.
    kind: Option<ModelKind>,
    /// Numbers in a vector of an embedding model; zero until its first load has told.
    embedding_size: u32,
    /// If it was loaded or asked for since the start.
    model: Option<Arc<Model>>,
}

/// What the server says that it is.
const NAME: &str = "hangar";

/// Extensions of the protocol, by the names that Triton gave them.
const EXTENSIONS: &[&str] = &[
    "model_repository",
    "model_configuration",
    "parameters",
    "statistics",
];

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
            fleet,
            options,
            health,
            stop,
        }
    }

    /// The model that `name` in `field` stands for, if it has this `version`.
    async fn named(&self, field: &str, name: &str, version: &str) -> Result<Named, ApiError> {
        let id = model_id(field, name)?;
        let model = self.fleet.tracked(&id);
        let named = match &model {
            Some(model) => {
                let facts = model.facts();
                Named {
                    id: facts.entry.id.clone(),
                    version: facts.entry.version,
                    kind: facts.entry.spec.kind.or(facts.learned.metadata.kind),
                    embedding_size: facts.learned.metadata.embedding_size,
                    model: Some(model.clone()),
                }
            }
            None => {
                let entry = self.fleet.find(&id).await?;
                Named {
                    version: entry.version,
                    kind: entry.spec.kind.or(entry.learned.metadata.kind),
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

    /// What `request` asks for.
    async fn ask(&self, request: ModelInferRequest) -> Result<Asked, ApiError> {
        let version = &request.model_version;
        let named = self.named("model_name", &request.model_name, version);
        let named = named.await?;
        // A model whose kind is not known is taken at its word: the worker says what it cannot do.
        let wanted = match embedding::is_wanted(&request) {
            true => ModelTask::Embed,
            false => ModelTask::Generate,
        };
        match named.kind.map_or(Ok(wanted), ModelTask::of)? {
            ModelTask::Generate if wanted == ModelTask::Embed => {
                Err(ApiError::Failed(Failure::new(
                    Reason::UnsupportedByModel,
                    "this model gives no vectors; ask it for text_output, or load an embedding model",
                )))
            }
            ModelTask::Generate => {
                ParsedRequest::parse(request, named.version).map(|ask| Asked::Text(ask.into()))
            }
            ModelTask::Embed => {
                embedding::ParsedRequest::parse(request, named.version).map(Asked::Vectors)
            }
        }
    }
}

impl OpenInferenceApi {
    /// The vectors that `ask` wants.
    async fn vectors(
        &self,
        ask: embedding::ParsedRequest,
        deadline: Option<Deadline>,
    ) -> Result<ModelInferResponse, Status> {
        let request = embed::parse(ask.embed, deadline)?;
        let vectors = embed::embed(&self.fleet, request).await?;
        Ok(ask.form.response(vectors))
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for OpenInferenceApi {
    type ModelStreamInferStream = Responses;

    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = self.health.serving(READINESS) == Some(true);
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let request = request.into_inner();
        let named = self.named("name", &request.name, &request.version).await;
        let model = named.ok().and_then(|named| named.model);
        let ready = model.is_some_and(|model| model.status().stage == Stage::Ready);
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: NAME.to_owned(),
            version: config::VERSION.to_owned(),
            extensions: EXTENSIONS.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let named = self.named("name", &request.name, &request.version).await?;
        Ok(Response::new(named.task()?.metadata(&named)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let request = request.into_inner();
        let named = self.named("name", &request.name, &request.version).await?;
        let config = Some(named.task()?.config(&named));
        Ok(Response::new(ModelConfigResponse { config }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let ask = match self.ask(request.into_inner()).await? {
            Asked::Text(ask) => *ask,
            Asked::Vectors(ask) => return self.vectors(ask, deadline).await.map(Response::new),
        };
        if ask.stream {
            let what = "stream must not be true in ModelInfer, which gives one response; use ModelStreamInfer";
            return Err(ApiError::invalid("inputs", what).into());
        }
        let request = generate::parse(ask.generate, deadline)?;
        let mut generation = Decoded::from(generate::generate(&self.fleet, request).await?);
        let mut answer = Answer::new(ask.form);
        while let Some(response) = generation.next().await {
            match response?.event {
                Some(Event::Chunk(chunk)) => answer.add(chunk),
                Some(Event::Done(done)) => return Ok(Response::new(answer.end(&done))),
                None => {}
            }
        }
        Err(ApiError::Internal("an answer ended without an end".to_owned()).into())
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let responses = parallel::responses(self.clone(), request.into_inner(), deadline);
        Ok(Response::new(responses))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let request = request.into_inner();
        let model_stats = self.statistics(&request).await?;
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let models = self.index(&request.into_inner()).await?;
        Ok(Response::new(RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        self.load(&request.into_inner()).await?;
        Ok(Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        self.unload(&request.into_inner()).await?;
        Ok(Response::new(RepositoryModelUnloadResponse {}))
    }
}

impl Named {
    /// What the model is for.
    fn task(&self) -> Result<ModelTask, ApiError> {
        let kind = self.kind.ok_or_else(|| ApiError::NotLoaded {
            model: self.id.to_string(),
            why: Some("its kind is known once it was loaded".to_owned()),
        })?;
        ModelTask::of(kind)
    }
}

/// The beginning of a name that a client made up, for an error.
fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(32).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
