//! ModelService: parses requests, asks the fleet, converts answers.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::FutureExt;
use hangar_client::v1::{
    GetInfoRequest, GetInfoResponse, InfoView, LoadModelRequest, LoadModelResponse, ModelLoad,
    ModelUnload, SwitchModelRequest, SwitchModelResponse, UnloadModelRequest, UnloadModelResponse,
    UnloadVerification, WatchStatusRequest, load_model_request, model_service_server::ModelService,
    unload_model_request,
};
use tonic::{Request, Response, Status};

use super::{
    error::ApiError,
    info::{self, Detail, Started},
    request_ids::RequestIds,
    shared_stream::EncodedStream,
    validate::{self, Violations},
    watch,
};
use crate::{
    lifecycle::{Fleet, LoadOptions, LoadTicket, Verification},
    model::ModelId,
    status::{Filter, Hub, Watch},
    system::SystemMonitor,
    telemetry::model::ModelMetrics,
    wire,
};

/// Implements ModelService.
#[derive(Debug)]
pub struct ModelApi {
    core: Arc<Core>,
    loads: RequestIds<LoadModelResponse>,
    unloads: RequestIds<UnloadModelResponse>,
}

/// Settings of [`ModelApi`].
#[derive(Clone, Debug)]
pub struct ModelApiOptions {
    /// Time of a load whose request does not say.
    pub load_timeout: Duration,
    /// Time of a drain whose request does not say.
    pub drain_timeout: Duration,
    /// Watchers at the same time.
    pub max_watchers: usize,
    /// Time without any other response after which a watcher gets a heartbeat.
    pub heartbeat: Duration,
}

struct Core {
    fleet: Arc<Fleet>,
    hub: Arc<Hub>,
    system: Arc<SystemMonitor>,
    options: ModelApiOptions,
    metrics: ModelMetrics,
    started: Started,
}

/// Models in one answer.
const MAX_MODELS: usize = 1000;

/// Models that a watcher may name.
const MAX_FILTER: usize = 1000;

/// Shortest time between two progress messages of a model.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

// === impl ModelApi ===

impl ModelApi {
    /// Serves `fleet`, whose transitions go to `hub`.
    pub fn new(
        fleet: Arc<Fleet>,
        hub: Arc<Hub>,
        system: Arc<SystemMonitor>,
        metrics: ModelMetrics,
        options: ModelApiOptions,
    ) -> Self {
        let started = Started {
            at: SystemTime::now(),
            clock: Instant::now(),
        };
        let core = Arc::new(Core {
            fleet,
            hub,
            system,
            options,
            metrics,
            started,
        });
        Self {
            core,
            loads: RequestIds::default(),
            unloads: RequestIds::default(),
        }
    }

    /// The encoded responses of WatchStatus.
    pub(super) fn watch(&self, request: WatchStatusRequest) -> Result<EncodedStream, ApiError> {
        let Core {
            hub,
            options,
            metrics,
            ..
        } = &*self.core;
        let mut violations = Violations::default();
        let interval =
            violations.duration("progress_interval", request.progress_interval, MIN_INTERVAL);
        violations.check(
            request.model_ids.len() <= MAX_FILTER,
            "model_ids",
            "must have at most 1000 entries",
        );
        let mut ids = Vec::new();
        for (n, id) in request.model_ids.iter().take(MAX_FILTER).enumerate() {
            ids.extend(violations.model_id(&format!("model_ids[{n}]"), id));
        }
        violations.finish()?;
        let resume = watch::parse_token(&request.resume_token, hub.epoch())?;
        let filter = if ids.is_empty() {
            Filter::All
        } else {
            Filter::Only(ids.into_iter().collect())
        };
        let interval = interval.unwrap_or(MIN_INTERVAL);
        let watch = Watch::new(hub.clone(), filter, resume, interval, options.heartbeat)
            .map_err(|_| ApiError::InvalidToken)?;
        // Looked at when this one is counted, so that not even calls at the same moment get past the limit.
        if hub.watchers() > options.max_watchers {
            return Err(ApiError::Limit {
                what: "watchers",
                limit: options.max_watchers,
            });
        }
        Ok(watch::responses(
            watch,
            hub.epoch().clone(),
            metrics.watcher(),
        ))
    }
}

#[tonic::async_trait]
impl ModelService for ModelApi {
    type WatchStatusStream =
        futures::stream::Empty<Result<hangar_client::v1::WatchStatusResponse, Status>>;

    async fn get_info(
        &self,
        request: Request<GetInfoRequest>,
    ) -> Result<Response<GetInfoResponse>, Status> {
        Ok(Response::new(self.core.info(&request.into_inner()).await?))
    }

    async fn load_model(
        &self,
        request: Request<LoadModelRequest>,
    ) -> Result<Response<LoadModelResponse>, Status> {
        let request = request.into_inner();
        let core = self.core.clone();
        let work = {
            let request = request.clone();
            async move { Ok(core.load(request).await?) }.boxed()
        };
        self.loads
            .once(&request.request_id, &request, work)
            .await
            .map(Response::new)
    }

    async fn unload_model(
        &self,
        request: Request<UnloadModelRequest>,
    ) -> Result<Response<UnloadModelResponse>, Status> {
        let request = request.into_inner();
        let core = self.core.clone();
        let work = {
            let request = request.clone();
            async move { Ok(core.unload(request).await?) }.boxed()
        };
        self.unloads
            .once(&request.request_id, &request, work)
            .await
            .map(Response::new)
    }

    async fn switch_model(
        &self,
        _: Request<SwitchModelRequest>,
    ) -> Result<Response<SwitchModelResponse>, Status> {
        Err(ApiError::NotImplemented("SwitchModel".to_owned()).into())
    }

    /// Never called: [`super::WatchRoute`] serves this method from shared bytes.
    async fn watch_status(
        &self,
        _: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        Err(ApiError::Internal("WatchStatus is served by WatchRoute".to_owned()).into())
    }
}

// === impl Core ===

impl Core {
    async fn info(&self, request: &GetInfoRequest) -> Result<GetInfoResponse, ApiError> {
        let mut violations = Violations::default();
        violations.note("view", InfoView::try_from(request.view));
        let only = match request.model_id.as_str() {
            "" => None,
            id => violations.model_id("model_id", id),
        };
        violations.finish()?;
        let detail = Detail {
            full: request.view() == InfoView::Full
                || (only.is_some() && request.view() == InfoView::Unspecified),
            metrics: request.include_metrics,
        };
        let models = match &only {
            Some(id) => vec![self.fleet.model(id)?],
            None => self.fleet.all(),
        };
        let statuses = self.fleet.statuses();
        let stands = |model: &Arc<crate::lifecycle::Model>| {
            statuses
                .get(model.id())
                .cloned()
                .unwrap_or_else(|| (*model.status()).clone())
        };
        let standing: Vec<_> = statuses.values().cloned().collect();
        Ok(GetInfoResponse {
            server: Some(info::server(
                &self.fleet,
                self.started,
                self.hub.epoch().as_str(),
            )),
            system: Some(info::system(&self.system.sample(), &standing)),
            devices: Vec::new(),
            cache: None,
            truncated: models.len() > MAX_MODELS,
            models: models
                .iter()
                .take(MAX_MODELS)
                .map(|m| info::model(m, &stands(m), detail))
                .collect(),
        })
    }

    async fn load(&self, request: LoadModelRequest) -> Result<LoadModelResponse, ApiError> {
        let mut violations = Violations::default();
        violations.request_id(&request.request_id);
        let timeout = violations.duration("timeout", request.timeout, Duration::from_millis(1));
        let id = match &request.target {
            Some(load_model_request::Target::ModelId(id)) => violations.model_id("model_id", id),
            Some(load_model_request::Target::All(_)) => None,
            None => violations.model_id("model_id", ""),
        };
        let spec = request
            .spec
            .as_ref()
            .map(|spec| validate::spec(spec, "spec", &mut violations));
        violations.finish()?;
        request
            .spec
            .as_ref()
            .map_or(Ok(()), validate::refuse_later_fields)?;
        validate::refuse(&[
            (
                "all",
                matches!(request.target, Some(load_model_request::Target::All(_))),
            ),
            ("session_id", !request.session_id.is_empty()),
        ])?;
        let Some(id) = id else {
            return Err(ApiError::invalid("model_id", "is required"));
        };
        let timeout = timeout.unwrap_or(self.options.load_timeout);
        let options = LoadOptions {
            spec,
            force: request.force_reload,
            timeout,
        };
        if request.validate_only {
            self.fleet.check_load(&id, &options).await?;
            return Ok(LoadModelResponse::default());
        }
        let ticket = self.fleet.load(&id, options).await?;
        let load = if request.wait {
            self.settle(&id, ticket).await?
        } else {
            self.answer(&id, &ticket)
        };
        Ok(LoadModelResponse { loads: vec![load] })
    }

    /// Waits until the load has ended. A caller that goes away leaves the load running.
    async fn settle(&self, id: &ModelId, mut ticket: LoadTicket) -> Result<ModelLoad, ApiError> {
        if let Some(outcome) = ticket.outcome.take() {
            let ended = outcome.await.map_err(|_| ApiError::ShuttingDown)?;
            ticket.status = ended.map_err(|failure| {
                if self.fleet.is_closing() {
                    ApiError::ShuttingDown
                } else {
                    ApiError::Failed(failure)
                }
            })?;
        }
        Ok(self.answer(id, &ticket))
    }

    fn answer(&self, id: &ModelId, ticket: &LoadTicket) -> ModelLoad {
        let estimate = self
            .fleet
            .model(id)
            .ok()
            .and_then(|model| model.facts().metadata.load_duration);
        ModelLoad {
            model_id: id.to_string(),
            load_id: ticket.load_id.to_string(),
            already_loaded: ticket.already_loaded,
            status: Some(wire::status(&ticket.status)),
            estimated_load_time: estimate.and_then(wire::duration),
            error: None,
        }
    }

    async fn unload(&self, request: UnloadModelRequest) -> Result<UnloadModelResponse, ApiError> {
        let mut violations = Violations::default();
        violations.request_id(&request.request_id);
        let drain = violations.duration("drain_timeout", request.drain_timeout, Duration::ZERO);
        let ids = match &request.target {
            Some(unload_model_request::Target::ModelId(id)) => {
                violations.model_id("model_id", id).into_iter().collect()
            }
            Some(unload_model_request::Target::All(true)) => self.fleet.active(),
            Some(unload_model_request::Target::All(false)) | None => {
                violations.add("model_id", "is required, or all");
                Vec::new()
            }
        };
        violations.finish()?;
        validate::refuse(&[("session_id", !request.session_id.is_empty())])?;
        let drain = if request.force {
            Duration::ZERO
        } else {
            drain.unwrap_or(self.options.drain_timeout)
        };
        let unloads =
            futures::future::try_join_all(ids.iter().map(|id| self.unload_one(id, drain))).await?;
        let models_remaining = self
            .fleet
            .active()
            .iter()
            .map(ToString::to_string)
            .collect();
        Ok(UnloadModelResponse {
            unloads,
            models_remaining,
        })
    }

    async fn unload_one(&self, id: &ModelId, drain: Duration) -> Result<ModelUnload, ApiError> {
        let began = Instant::now();
        let report = self.fleet.unload(id, drain).await?;
        let verification = match report.verification {
            Verification::Nothing => UnloadVerification::Unspecified,
            Verification::Reaped => UnloadVerification::Reaped,
            Verification::TimedOut => UnloadVerification::TimedOut,
        };
        Ok(ModelUnload {
            model_id: id.to_string(),
            was_loaded: report.was_loaded,
            host_bytes_freed: report.host_bytes,
            device_bytes_freed: report.device_bytes,
            verification: verification.into(),
            elapsed: wire::duration(began.elapsed()),
            error: None,
            killed: report.killed,
        })
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
