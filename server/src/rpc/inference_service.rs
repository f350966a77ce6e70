//! InferenceService: admits requests and passes them to the models' workers.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hangar_client::{
    v1::{
        DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse, GenerateRequest,
        TokenizeRequest, TokenizeResponse, inference_service_server::InferenceService,
    },
    worker::v1 as worker,
};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

use super::{
    deadline::Deadline,
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

/// Time that a worker's bare error may be ahead of the news that the worker ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

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

    /// Admits a call that the engine has no part in.
    async fn admit_aside(&self, model_id: &str) -> Result<Permit, ApiError> {
        let model = self.model(model_id)?;
        self.admitted(&model, model.admit_aside().await)
    }

    fn admitted(&self, model: &Model, answer: Result<Permit, Refusal>) -> Result<Permit, ApiError> {
        match answer {
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

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Generation>, Status> {
        let called_until = request
            .extensions()
            .get::<Deadline>()
            .map(|deadline| deadline.0);
        let request = request.into_inner();
        let deadline = generate::check(&request)?
            .into_iter()
            .chain(called_until)
            .min();
        let model = self.model(&request.model_id)?;
        let record = model.begin_request(generate::operation(&request));
        let admit = async { self.admitted(&model, model.admit().await) };
        match generate::within(deadline, admit).await {
            Ok(permit) => Generation::begin(&self.fleet, request, permit, record, deadline)
                .await
                .map(Response::new),
            Err(
                error @ (ApiError::NotLoaded { .. }
                | ApiError::Loading { .. }
                | ApiError::ShuttingDown),
            ) => {
                record.turn_away();
                Err(error.into())
            }
            Err(error) => {
                let status = Status::from(error);
                record.fail(reason_of(&status));
                Err(status)
            }
        }
    }

    async fn embed(&self, _: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        Err(ApiError::NotImplemented("Embed".to_owned()).into())
    }

    async fn tokenize(
        &self,
        request: Request<TokenizeRequest>,
    ) -> Result<Response<TokenizeResponse>, Status> {
        let request = request.into_inner();
        let mut permit = self.admit_aside(&request.model_id).await?;
        let mut call = Request::new(worker::TokenizeRequest {
            text: request.text,
            add_special_tokens: request.add_special_tokens,
        });
        telemetry::propagate(call.metadata_mut());
        let mut client = permit.client();
        let answer = tokio::select! {
            answer = client.tokenize(call) => answer,
            failure = permit.cut_off() => Err(ApiError::Failed(failure).into()),
        };
        match answer {
            Ok(answer) => Ok(Response::new(TokenizeResponse {
                token_ids: answer.into_inner().token_ids,
            })),
            Err(status) => Err(explain(status, &mut permit).await),
        }
    }

    async fn detokenize(
        &self,
        request: Request<DetokenizeRequest>,
    ) -> Result<Response<DetokenizeResponse>, Status> {
        let request = request.into_inner();
        let mut permit = self.admit_aside(&request.model_id).await?;
        let mut call = Request::new(worker::DetokenizeRequest {
            token_ids: request.token_ids,
            skip_special_tokens: request.skip_special_tokens,
        });
        telemetry::propagate(call.metadata_mut());
        let mut client = permit.client();
        let answer = tokio::select! {
            answer = client.detokenize(call) => answer,
            failure = permit.cut_off() => Err(ApiError::Failed(failure).into()),
        };
        match answer {
            Ok(answer) => Ok(Response::new(DetokenizeResponse {
                text: answer.into_inner().text,
            })),
            Err(status) => Err(explain(status, &mut permit).await),
        }
    }
}

/// What a caller is told of a model whose gate is closed.
fn closed(model: &Model) -> ApiError {
    let status = model.status();
    let name = model.id().to_string();
    if status.stage.is_loading() {
        let until = |time: SystemTime| time.duration_since(SystemTime::now()).ok();
        let retry = status
            .next_retry
            .and_then(until)
            .or(status.progress.and_then(|progress| progress.eta))
            .unwrap_or(LOADING_RETRY);
        return ApiError::Loading { model: name, retry };
    }
    ApiError::NotLoaded {
        model: name,
        failure: status.failure.clone(),
    }
}

/// What a caller is told when a call to the worker failed: the worker's own words if it said anything,
/// else why its connection went.
pub(super) async fn explain(status: Status, permit: &mut Permit) -> Status {
    let told = status
        .get_details_error_info()
        .is_some_and(|info| info.domain == DOMAIN);
    if told && permit.failure().is_none() {
        return match status.code() {
            Code::Internal => ApiError::Internal(status.message().to_owned()).into(),
            _ => status,
        };
    }
    // What has no cause on this side was said by the worker, without a reason.
    let said = status.code() == Code::Internal && status.source().is_none();
    let patience = if said { LAST_WORDS } else { NEWS };
    match tokio::time::timeout(patience, permit.cut_off()).await {
        Ok(failure) => ApiError::Failed(failure),
        Err(_) if said => ApiError::Internal(status.message().to_owned()),
        Err(_) => ApiError::Failed(Failure::new(
            Reason::WorkerDied,
            "the connection to the model's worker broke; try again",
        )),
    }
    .into()
}
