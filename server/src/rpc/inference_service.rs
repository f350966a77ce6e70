//! InferenceService: parses requests, and has the models' workers answer them.

use std::sync::Arc;

use hangar_client::v1::{
    DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse, GenerateRequest,
    TokenizeRequest, TokenizeResponse, inference_service_server::InferenceService,
};
use tonic::{Request, Response, Status};

use super::{
    broken_call::explain,
    embed,
    error::ApiError,
    generate::{self, AnswerStream, DecodedAnswer},
    validate,
};
use crate::{lifecycle::Fleet, worker::WorkerClient};

/// Implements InferenceService.
#[derive(Clone)]
pub struct InferenceApi {
    fleet: Arc<Fleet>,
}

impl InferenceApi {
    /// Uses the models of `fleet`.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet }
    }

    /// Generates text. This is [`Generate`](InferenceService::generate), with encoded responses.
    pub(super) async fn begin(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<AnswerStream, Status> {
        let deadline = request.extensions().get().copied();
        let request = generate::parse(request.into_inner(), deadline)?;
        generate::generate(&self.fleet, request).await
    }

    /// Makes a call to a model's worker that its engine has no part in.
    async fn call_worker<A, F>(
        &self,
        name: &str,
        call: impl FnOnce(WorkerClient) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let name = validate::model_id("model_id", name)?;
        let permit = self.fleet.admit_without_engine(&name).await;
        let mut permit = permit.map_err(ApiError::from)?;
        let response = tokio::select! {
            response = call(permit.client()) => response,
            failure = permit.cut_off() => Err(ApiError::Failed(failure).into()),
        };
        match response {
            Ok(response) => Ok(Response::new(response)),
            Err(status) => Err(explain(status, &mut permit).await),
        }
    }
}

#[tonic::async_trait]
impl InferenceService for InferenceApi {
    type GenerateStream = DecodedAnswer;

    /// For callers without a route: [`super::GenerateRoute`] serves the method from the workers' bytes.
    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<DecodedAnswer>, Status> {
        Ok(Response::new(self.begin(request).await?.into()))
    }

    async fn embed(
        &self,
        request: Request<EmbedRequest>,
    ) -> Result<Response<EmbedResponse>, Status> {
        let deadline = request.extensions().get().copied();
        let request = embed::parse(request.into_inner(), deadline)?;
        let response = embed::embed(&self.fleet, request).await?;
        Ok(Response::new(response))
    }

    async fn tokenize(
        &self,
        request: Request<TokenizeRequest>,
    ) -> Result<Response<TokenizeResponse>, Status> {
        let request = request.into_inner();
        generate::check_tokenize(&request)?;
        let name = request.model_id.clone();
        let call = |mut client: WorkerClient| async move { client.tokenize(request).await };
        self.call_worker(&name, call).await
    }

    async fn detokenize(
        &self,
        request: Request<DetokenizeRequest>,
    ) -> Result<Response<DetokenizeResponse>, Status> {
        let request = request.into_inner();
        generate::check_detokenize(&request)?;
        let call = |mut client: WorkerClient| async move {
            let text = client
                .detokenize(request.token_ids, request.skip_special_tokens)
                .await?;
            Ok(DetokenizeResponse { text })
        };
        self.call_worker(&request.model_id, call).await
    }
}
