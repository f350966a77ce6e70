//! InferenceService: admits requests and passes them to the models' workers.

mod kind;

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hangar_client::v1::{
    DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse, GenerateRequest,
    TokenizeRequest, TokenizeResponse, inference_service_server::InferenceService,
};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;
use tracing::Instrument;

use super::{
    deadline, embed,
    error::{ApiError, DOMAIN, reason_of},
    generate::{self, Decoded, Generation, span_failed},
    validate::Violations,
};
use crate::{
    lifecycle::{Fleet, Model, Operation, Permit, Refusal, RequestRecord},
    model::{Failure, ModelId, Reason, Stage},
    worker::Client,
};
use kind::{check_kind, kind_of};

/// Implements InferenceService.
#[derive(Clone)]
pub struct InferenceApi {
    fleet: Arc<Fleet>,
}

/// How often a request goes elsewhere, or loads its model anew, before it is turned away.
const DETOURS: usize = 3;

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

    /// Generates text. This is [`Generate`](InferenceService::generate), with encoded responses.
    pub(super) async fn begin(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Generation, Status> {
        let called_until = request.extensions().get().copied();
        let request = request.into_inner();
        let deadline = deadline::earliest(called_until, generate::check(&request)?);
        let operation = generate::operation(&request);
        let span = generate::begin_span(&request, operation);
        let (name, priority) = (&request.model_id, request.priority);
        let admitted = self.admit(name, priority, operation, deadline).await;
        let (permit, record) =
            admitted.inspect_err(|status| span_failed(&span, reason_of(status)))?;
        Generation::begin(&self.fleet, request, permit, record, deadline)
            .instrument(span)
            .await
    }

    /// The model that `name` stands for, if it can do what `operation` asks. One that is loaded on demand is
    /// loaded first.
    async fn model(
        &self,
        name: &str,
        operation: Option<Operation>,
    ) -> Result<Arc<Model>, ApiError> {
        let mut violations = Violations::default();
        let id = violations.model_id("model_id", name);
        violations.finish()?;
        let id = id.ok_or_else(|| ApiError::invalid("model_id", "is required"))?;
        if let Some(model) = self.fleet.tracked(&id) {
            check_kind(kind_of(&model), operation)?;
            self.check_room(&model)?;
            if model.status().stage != Stage::Ready && may_load_on_demand(&model) {
                let entry = model.facts().entry.clone();
                self.fleet
                    .load_on_demand(entry)
                    .await
                    .map_err(ApiError::Failed)?;
                check_kind(kind_of(&model), operation)?;
            }
            return Ok(model);
        }
        let entry = self.fleet.find(&id).await?;
        check_kind(entry.spec.kind, operation)?;
        if !entry.spec.load_on_demand {
            return Err(ApiError::NotLoaded {
                model: entry.id.to_string(),
                why: entry.suspended.map(|suspension| suspension.message),
            });
        }
        self.fleet
            .load_on_demand(entry)
            .await
            .map_err(ApiError::Failed)?;
        let model = self.fleet.tracked(&id).ok_or(ApiError::ShuttingDown)?;
        check_kind(kind_of(&model), operation)?;
        Ok(model)
    }

    /// Refuses what would bring `model` back while a switch has unloaded it to make room for another.
    fn check_room(&self, model: &Model) -> Result<(), ApiError> {
        if model.status().stage == Stage::Ready {
            return Ok(());
        }
        let Some(new) = self.fleet.makes_room_for(model.id()) else {
            return Ok(());
        };
        let status = self.fleet.tracked(&new).map(|new| new.status());
        let eta = status.and_then(|status| status.progress?.eta);
        Err(ApiError::Loading {
            model: new.to_string(),
            retry: eta.unwrap_or(LOADING_RETRY),
        })
    }

    /// The model to try after `model`, which stands behind `name`, has turned a request away: its alias may
    /// have moved, or it may have been evicted, while the request was on its way.
    async fn instead_of(
        &self,
        model: &Model,
        name: &str,
        operation: Option<Operation>,
    ) -> Result<Option<Arc<Model>>, ApiError> {
        let Ok(id) = ModelId::parse(name) else {
            return Ok(None);
        };
        if self.fleet.resolve(&id) != *model.id() {
            return self.model(name, operation).await.map(Some);
        }
        self.check_room(model)?;
        if !may_load_on_demand(model) {
            return Ok(None);
        }
        let entry = model.facts().entry.clone();
        self.fleet
            .load_on_demand(entry)
            .await
            .map_err(ApiError::Failed)?;
        Ok(self.fleet.tracked(&id))
    }

    /// Admits a call that the engine has no part in.
    async fn admit_unscheduled(&self, name: &str) -> Result<Permit, ApiError> {
        let mut model = self.model(name, None).await?;
        for _ in 0..DETOURS {
            match self.admitted(&model, model.admit_unscheduled().await) {
                Err(error @ (ApiError::NotLoaded { .. } | ApiError::Loading { .. })) => {
                    model = self.instead_of(&model, name, None).await?.ok_or(error)?;
                }
                admitted => return admitted,
            }
        }
        self.admitted(&model, model.admit_unscheduled().await)
    }

    /// Puts a question to a model's worker that the engine has no part in.
    async fn ask_unscheduled<A, F>(
        &self,
        name: &str,
        ask: impl FnOnce(Client) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let mut permit = self.admit_unscheduled(name).await?;
        let answer = tokio::select! {
            answer = ask(permit.client()) => answer,
            failure = permit.cut_off() => Err(ApiError::Failed(failure).into()),
        };
        match answer {
            Ok(answer) => Ok(Response::new(answer)),
            Err(status) => Err(explain(status, &mut permit).await),
        }
    }

    /// Admits a call that the engine answers.
    async fn admit(
        &self,
        name: &str,
        priority: i32,
        operation: Operation,
        deadline: Option<Instant>,
    ) -> Result<(Permit, RequestRecord), Status> {
        let asked = Some(operation);
        let mut model = generate::within(deadline, self.model(name, asked)).await?;
        let mut record = model.begin_request(operation);
        let admit = async { self.admitted(&model, model.admit(priority).await) };
        let mut admitted = generate::within(deadline, admit).await;
        for _ in 0..DETOURS {
            let Err(ApiError::NotLoaded { .. } | ApiError::Loading { .. }) = &admitted else {
                break;
            };
            match generate::within(deadline, self.instead_of(&model, name, asked)).await {
                Ok(Some(now)) => model = now,
                Ok(None) => break,
                Err(error) => {
                    admitted = Err(error);
                    break;
                }
            }
            record.turn_away();
            record = model.begin_request(operation);
            let admit = async { self.admitted(&model, model.admit(priority).await) };
            admitted = generate::within(deadline, admit).await;
        }
        match admitted {
            Ok(permit) => Ok((permit, record)),
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
    type GenerateStream = Decoded;

    /// For calls of the server's own: [`super::GenerateRoute`] serves the method from the workers' bytes.
    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Decoded>, Status> {
        Ok(Response::new(self.begin(request).await?.into()))
    }

    async fn embed(
        &self,
        request: Request<EmbedRequest>,
    ) -> Result<Response<EmbedResponse>, Status> {
        let called_until = request.extensions().get().copied();
        let request = request.into_inner();
        let deadline = deadline::earliest(called_until, embed::check(&request)?);
        let span = embed::begin_span(&request);
        let (name, priority) = (&request.model_id, request.priority);
        let operation = Operation::Embeddings;
        let admitted = self.admit(name, priority, operation, deadline).await;
        let (permit, record) =
            admitted.inspect_err(|status| span_failed(&span, reason_of(status)))?;
        embed::embed(request, permit, record, deadline)
            .instrument(span)
            .await
            .map(Response::new)
    }

    async fn tokenize(
        &self,
        request: Request<TokenizeRequest>,
    ) -> Result<Response<TokenizeResponse>, Status> {
        let request = request.into_inner();
        let ask = |mut client: Client| async move {
            let token_ids = client
                .tokenize(request.text, request.add_special_tokens)
                .await?;
            Ok(TokenizeResponse { token_ids })
        };
        self.ask_unscheduled(&request.model_id, ask).await
    }

    async fn detokenize(
        &self,
        request: Request<DetokenizeRequest>,
    ) -> Result<Response<DetokenizeResponse>, Status> {
        let request = request.into_inner();
        let ask = |mut client: Client| async move {
            let text = client
                .detokenize(request.token_ids, request.skip_special_tokens)
                .await?;
            Ok(DetokenizeResponse { text })
        };
        self.ask_unscheduled(&request.model_id, ask).await
    }
}

/// What a caller is told of a model whose gate is closed.
fn closed(model: &Model) -> ApiError {
    let status = model.status();
    let name = model.id().to_string();
    if status.stage.is_loading() || status.next_load.is_some() {
        let until = |time: SystemTime| time.duration_since(SystemTime::now()).ok();
        let took = model.facts().learned.metadata.load_duration;
        let retry = status
            .next_retry
            .and_then(until)
            .or(status.progress.and_then(|progress| progress.eta))
            // How long a drain takes is not known; how long the load takes that follows may be.
            .or(took.filter(|_| !status.stage.is_loading()))
            .unwrap_or(LOADING_RETRY);
        return ApiError::Loading { model: name, retry };
    }
    let why = match (&status.failure, &status.suspended) {
        (Some(failure), _) => Some(format!("its last load failed: {failure}")),
        (None, Some(suspension)) => Some(suspension.message.clone()),
        (None, None) => None,
    };
    ApiError::NotLoaded { model: name, why }
}

/// Whether a request may load `model`. One that has failed is not tried again and again, unless there was
/// just no room for it.
fn may_load_on_demand(model: &Model) -> bool {
    let status = model.status();
    let starved = |failure: &Failure| failure.reason == Reason::InsufficientMemory;
    let given_up = status.stage == Stage::Failed && !status.failure.as_ref().is_some_and(starved);
    model.facts().entry.spec.load_on_demand && !given_up
}

/// What a caller is told when a call to the worker failed: the worker's own words if it said anything,
/// else why its connection went.
pub(super) async fn explain(status: Status, permit: &mut Permit) -> Status {
    let reported = status
        .get_details_error_info()
        .is_some_and(|info| info.domain == DOMAIN);
    if reported && permit.failure().is_none() {
        return match status.code() {
            Code::Internal => ApiError::Internal(status.message().to_owned()).into(),
            _ => status,
        };
    }
    // What has no cause on this side was said by the worker, without a reason.
    let said = status.source().is_none()
        && matches!(
            status.code(),
            Code::Internal | Code::OutOfRange | Code::ResourceExhausted | Code::Unimplemented
        );
    let patience = if said { LAST_WORDS } else { NEWS };
    match tokio::time::timeout(patience, permit.cut_off()).await {
        Ok(failure) => ApiError::Failed(failure),
        Err(_) if said => ApiError::Internal(status.message().to_owned()),
        Err(_) => ApiError::CallBroken,
    }
    .into()
}
