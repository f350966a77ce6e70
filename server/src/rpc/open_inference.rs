//! The Open Inference Protocol with Triton's repository, configuration and statistics extensions.
//!
//! It only translates: what its requests ask for becomes the same checked requests as those of `hangar.v1` do, which run
//! by the same code, so that limits, counters and errors are the same whichever protocol a client speaks.

mod api;
mod conventions;
mod embedding;
mod named_model;
mod parallel;
mod sampling;
mod task;
mod tensors;
mod text_request;
mod text_response;
mod truncated;

use std::sync::Arc;

pub use api::OpenInferenceApi;
use api::TaskRequest;
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
use text_request::TextRequest;
use text_response::TextResponse;
use tonic::{Request, Response, Status, Streaming};

use super::{
    deadline::Deadline,
    error::ApiError,
    generate::{self, DecodedAnswer},
    health::READINESS,
    request_memory::{CallMemory, StreamMemory},
};
use crate::{model::StateKind, version};

/// What the server says that it is.
const NAME: &str = "hangar";

/// Extensions of the protocol, by the names that Triton gave them.
const EXTENSIONS: &[&str] = &[
    "model_repository",
    "model_configuration",
    "parameters",
    "statistics",
];

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
        let ready = model.is_some_and(|model| model.status().state == StateKind::Ready);
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: NAME.to_owned(),
            version: version::VERSION.to_owned(),
            extensions: EXTENSIONS.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let named = self.named("name", &request.name, &request.version).await?;
        Ok(Response::new(ModelTask::of_model(&named)?.metadata(&named)))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let request = request.into_inner();
        let named = self.named("name", &request.name, &request.version).await?;
        let config = Some(ModelTask::of_model(&named)?.config(&named));
        Ok(Response::new(ModelConfigResponse { config }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let TextRequest { generate, form } = match self
            .parse_request(request.into_inner(), deadline)
            .await?
        {
            TaskRequest::Text(request) => *request,
            TaskRequest::Vectors(request) => return self.vectors(request).await.map(Response::new),
        };
        if form.stream {
            let what = "stream must not be true in ModelInfer, which gives one response; use ModelStreamInfer";
            return Err(ApiError::invalid("inputs", what).into());
        }
        let generation = generate::generate(&self.fleet, generate).await?;
        let mut generation = DecodedAnswer::from(generation);
        let mut answer = TextResponse::new(form);
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
        let extensions = request.extensions();
        let deadline = extensions.get::<Deadline>().copied();
        let call = extensions.get::<Arc<CallMemory>>().cloned();
        let call = call.ok_or_else(|| ApiError::Internal("a call without memory".to_owned()))?;
        let memory = StreamMemory::new(call);
        let requests = request.into_inner();
        let responses = parallel::responses(self.clone(), requests, memory, deadline);
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
