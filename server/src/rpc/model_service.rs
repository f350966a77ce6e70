//! ModelService: parses requests, asks the fleet, converts answers.

mod load;
mod switch;
mod unload;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::FutureExt;
use hangar_client::v1::{
    GetInfoRequest, GetInfoResponse, LoadModelRequest, LoadModelResponse, SwitchModelRequest,
    SwitchModelResponse, UnloadModelRequest, UnloadModelResponse, WatchStatusRequest,
    model_service_server::ModelService,
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    encoded::EncodedStream,
    error::ApiError,
    info::{RegisteredModels, ServerStart, Sources},
    request_ids::{RequestIds, remembered},
    validate::Violations,
    watch,
};
use crate::{
    lifecycle::Fleet,
    status::{EventLog, Filter, Watch},
    system::SystemMonitor,
    telemetry::model_metrics::ModelMetrics,
};

/// Implements ModelService.
#[derive(Debug)]
pub struct ModelApi {
    handlers: Arc<ModelHandlers>,
    loads: RequestIds<LoadModelResponse>,
    unloads: RequestIds<UnloadModelResponse>,
    switches: RequestIds<SwitchModelResponse>,
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

struct ModelHandlers {
    fleet: Arc<Fleet>,
    event_log: Arc<EventLog>,
    system: Arc<SystemMonitor>,
    options: ModelApiOptions,
    metrics: ModelMetrics,
    started: ServerStart,
    /// For GetInfo.
    registered: RegisteredModels,
}

/// Models that a watcher may name.
const MAX_FILTER: usize = 1000;

/// Shortest time between two progress messages of a model.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

impl ModelApi {
    /// Serves `fleet`, whose transitions go to `event_log`.
    pub fn new(
        fleet: Arc<Fleet>,
        event_log: Arc<EventLog>,
        system: Arc<SystemMonitor>,
        metrics: ModelMetrics,
        options: ModelApiOptions,
    ) -> Self {
        let started = ServerStart {
            at: SystemTime::now(),
            clock: Instant::now(),
        };
        let (catalog, tasks) = (fleet.catalog().clone(), fleet.tasks());
        let handlers = Arc::new(ModelHandlers {
            fleet,
            event_log,
            system,
            options,
            metrics,
            started,
            registered: RegisteredModels::default(),
        });
        Self {
            handlers,
            loads: RequestIds::new("LoadModel", catalog.clone(), tasks.clone()),
            unloads: RequestIds::new("UnloadModel", catalog.clone(), tasks.clone()),
            switches: RequestIds::new("SwitchModel", catalog, tasks),
        }
    }

    /// The encoded responses of WatchStatus.
    pub(super) fn watch(&self, request: WatchStatusRequest) -> Result<EncodedStream, ApiError> {
        let ModelHandlers {
            event_log,
            options,
            metrics,
            ..
        } = &*self.handlers;
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
        let resume = watch::parse_token(&request.resume_token, event_log.epoch())?;
        let filter = if ids.is_empty() {
            Filter::All
        } else {
            Filter::Only(ids.into_iter().collect())
        };
        let interval = interval.unwrap_or(MIN_INTERVAL);
        let watch = Watch::new(
            event_log.clone(),
            filter,
            resume,
            interval,
            options.heartbeat,
        )
        .map_err(|_| ApiError::InvalidToken)?;
        // Looked at when this one is counted, so that not even calls at the same moment get past the limit.
        if event_log.watchers() > options.max_watchers {
            return Err(ApiError::Limit {
                what: "watchers",
                limit: options.max_watchers,
            });
        }
        Ok(watch::responses(
            watch,
            event_log.epoch().clone(),
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
        let handlers = &self.handlers;
        let sources = Sources {
            fleet: &handlers.fleet,
            event_log: &handlers.event_log,
            system: &handlers.system,
            started: handlers.started,
            registered: &handlers.registered,
        };
        Ok(Response::new(
            sources.response(&request.into_inner()).await?,
        ))
    }

    async fn load_model(
        &self,
        request: Request<LoadModelRequest>,
    ) -> Result<Response<LoadModelResponse>, Status> {
        let request = request.into_inner();
        let handlers = self.handlers.clone();
        let work = {
            let request = request.clone();
            async move { Ok(handlers.load(request).await?) }.boxed()
        };
        let id = remembered(&request.request_id, request.validate_only);
        self.loads.once(id, &request, work).await.map(Response::new)
    }

    async fn unload_model(
        &self,
        request: Request<UnloadModelRequest>,
    ) -> Result<Response<UnloadModelResponse>, Status> {
        let request = request.into_inner();
        let handlers = self.handlers.clone();
        let work = {
            let request = request.clone();
            async move { Ok(handlers.unload(request).await?) }.boxed()
        };
        self.unloads
            .once(&request.request_id, &request, work)
            .await
            .map(Response::new)
    }

    async fn switch_model(
        &self,
        request: Request<SwitchModelRequest>,
    ) -> Result<Response<SwitchModelResponse>, Status> {
        let request = request.into_inner();
        let handlers = self.handlers.clone();
        let work = {
            let request = request.clone();
            async move { Ok(handlers.switch(request).await?) }.boxed()
        };
        let id = remembered(&request.request_id, request.validate_only);
        self.switches
            .once(id, &request, work)
            .await
            .map(Response::new)
    }

    /// Never called: [`super::WatchRoute`] serves this method from shared bytes.
    async fn watch_status(
        &self,
        _: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        Err(ApiError::Internal("WatchStatus is served by WatchRoute".to_owned()).into())
    }
}

impl std::fmt::Debug for ModelHandlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelHandlers")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// `status` as an item of an answer.
fn item_error(status: &Status) -> tonic_types::Status {
    let whole = tonic_types::Status::decode(status.details()).ok();
    tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: whole.map(|whole| whole.details).unwrap_or_default(),
    }
}
