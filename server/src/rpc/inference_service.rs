//! InferenceService: admits requests and passes them to the models' workers.

use std::{sync::Arc, time::Duration};

use hangar_client::{
    v1::{
        DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse, GenerateRequest, TokenizeRequest,
        TokenizeResponse, inference_service_server::InferenceService,
    },
    worker::v1 as worker,
};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;

use super::{
    error::{ApiError, DOMAIN, reason_of},
    generate::{self, Generation},
    validate::Violations,
};
use crate::{
    lifecycle::{Fleet, Model, Permit, Refusal},
    model::{Failure, Reason},
    telemetry,
};

/// Implements InferenceService.
#[derive(Clone)]
pub struct InferenceApi {
    fleet: Arc<Fleet>,
}

/// When to ask again for a model that loads without an estimate.
const LOADING_RETRY: Duration = Duration::from_secs(1);

/// Time that the end of a worker's connection may be ahead of the news of why.
const NEWS: Duration = Duration::from_secs(5);

// === impl InferenceApi ===

impl InferenceApi {
    /// Uses the models of `fleet`.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet }
    }

    fn model(&self, id: &str) -> Result<Arc<Model>, ApiError> {
        let mut violations = Violations::default();
        let id = violations.model_id("model_id", id);
        violations.finish()?;
        let id = id.ok_or_else(|| ApiError::invalid("model_id", "is required"))?;
        Ok(self.fleet.model(&id)?)
    }

    async fn admit(&self, model: &Model) -> Result<Permit, ApiError> {
        match model.admit().await {
            Ok(permit) => Ok(permit),
            Err(_) if self.fleet.is_closing() => Err(ApiError::ShuttingDown),
            Err(Refusal::QueueFull { limit }) => Err(ApiError::QueueFull { limit }),
            Err(Refusal::CutOff(failure)) => Err(ApiError::Failed(failure)),
            Err(Refusal::Closed) => Err(closed(model)),
        }
    }
}

#[tonic::async_trait]
impl InferenceService for InferenceApi {
    type GenerateStream = Generation;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Generation>, Status> {
        let request = request.into_inner();
        let deadline = generate::check(&request)?;
        let model = self.model(&request.model_id)?;
        let record = model.begin_request(generate::operation(&request));
        let admitted = generate::within(deadline, self.admit(&model)).await;
        let permit = match admitted {
            Ok(permit) => permit,
            Err(error) => {
                let status = Status::from(error);
                record.fail(reason_of(&status));
                return Err(status);
            }
        };
        Generation::begin(request, permit, record, deadline).await.map(Response::new)
    }

    async fn embed(&self, _: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        Err(ApiError::NotImplemented("Embed".to_owned()).into())
    }

    async fn tokenize(&self, request: Request<TokenizeRequest>) -> Result<Response<TokenizeResponse>, Status> {
        let request = request.into_inner();
        let mut permit = self.admit(&*self.model(&request.model_id)?).await?;
        let mut call = Request::new(worker::TokenizeRequest {
            text: request.text,
            add_special_tokens: request.add_special_tokens,
        });
        telemetry::propagate(call.metadata_mut());
        let answer = permit.client().tokenize(call).await;
        match answer {
            Ok(answer) => Ok(Response::new(TokenizeResponse { token_ids: answer.into_inner().token_ids })),
            Err(status) => Err(explain(status, &mut permit).await),
        }
    }

    async fn detokenize(&self, request: Request<DetokenizeRequest>) -> Result<Response<DetokenizeResponse>, Status> {
        let request = request.into_inner();
        let mut permit = self.admit(&*self.model(&request.model_id)?).await?;
        let mut call = Request::new(worker::DetokenizeRequest {
            token_ids: request.token_ids,
            skip_special_tokens: request.skip_special_tokens,
        });
        telemetry::propagate(call.metadata_mut());
        let answer = permit.client().detokenize(call).await;
        match answer {
            Ok(answer) => Ok(Response::new(DetokenizeResponse { text: answer.into_inner().text })),
            Err(status) => Err(explain(status, &mut permit).await),
        }
    }
}

/// What a caller is told of a model whose gate is closed.
fn closed(model: &Model) -> ApiError {
    let status = model.status();
    let name = model.id().to_string();
    if status.stage.is_loading() {
        let retry = status.progress.and_then(|progress| progress.eta).unwrap_or(LOADING_RETRY);
        return ApiError::Loading { model: name, retry };
    }
    ApiError::NotLoaded { model: name, failure: status.failure.clone() }
}

/// What a caller is told when a call to the worker failed: the worker's own words if it said anything,
/// else why its connection went.
pub(super) async fn explain(status: Status, permit: &mut Permit) -> Status {
    let told = status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN);
    if told && permit.failure().is_none() {
        return status;
    }
    let failure = tokio::time::timeout(NEWS, permit.cut_off()).await.unwrap_or_else(|_| {
        Failure::new(Reason::WorkerDied, "the connection to the model's worker broke; try again")
    });
    ApiError::Failed(failure).into()
}
