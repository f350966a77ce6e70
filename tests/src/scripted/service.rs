//! The worker's service, as scripted.

use std::{future::pending, sync::Arc, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use hangar_worker_protocol::v1::{
    DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse, GenerateRequest,
    GenerateResponse, LoadRequest, LoadResponse, PrepareWeightsRequest, PrepareWeightsResponse,
    ShutdownRequest, ShutdownResponse, TokenizeRequest, TokenizeResponse, WatchStatsRequest,
    WatchStatsResponse, worker_service_server::WorkerService,
};
use tonic::{Request, Response, Status};

use super::{
    events::{ScriptedEvent, report},
    fault::Fault,
    generation::ScriptedAnswer,
    loading::{LoadStep, response},
    script::{ShutdownKind, StatsKind},
    work::work_for,
    worker::Worker,
};

/// The service of a worker.
#[derive(Clone, Debug)]
pub(super) struct Service(pub(super) Arc<Worker>);

/// A load that goes on. Dropped before its end it counts as given up by its caller.
struct RunningLoad {
    worker: Arc<Worker>,
    step: LoadStep,
    ended: bool,
}

#[tonic::async_trait]
impl WorkerService for Service {
    type LoadStream = BoxStream<'static, Result<LoadResponse, Status>>;
    type GenerateStream = BoxStream<'static, Result<GenerateResponse, Status>>;
    type WatchStatsStream = BoxStream<'static, Result<WatchStatsResponse, Status>>;

    async fn load(
        &self,
        _request: Request<LoadRequest>,
    ) -> Result<Response<Self::LoadStream>, Status> {
        report(&self.0.directory, ScriptedEvent::Load);
        let loading = RunningLoad {
            worker: Arc::clone(&self.0),
            step: LoadStep::Build,
            ended: false,
        };
        let steps = stream::try_unfold(loading, async |mut loading| {
            let Some((event, step)) = loading.worker.load_step(loading.step).await? else {
                loading.ended = true;
                return Ok(None);
            };
            loading.step = step;
            loading.ended = step == LoadStep::End;
            Ok(Some((response(event), loading)))
        });
        let stopping = self.0.stopping.clone().cancelled_owned();
        Ok(Response::new(steps.take_until(stopping).boxed()))
    }

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let answer = ScriptedAnswer::new(Arc::clone(&self.0), request.into_inner());
        let responses = stream::try_unfold(answer, async |mut answer| {
            Ok(answer.next().await?.map(|response| (response, answer)))
        });
        let stopping = self.0.stopping.clone().cancelled_owned();
        Ok(Response::new(responses.take_until(stopping).boxed()))
    }

    async fn embed(
        &self,
        request: Request<EmbedRequest>,
    ) -> Result<Response<EmbedResponse>, Status> {
        let answer = ScriptedAnswer::of_texts(Arc::clone(&self.0), request.into_inner());
        tokio::select! {
            embeddings = answer.embeddings() => Ok(Response::new(EmbedResponse {
                embeddings: embeddings?,
            })),
            () = self.0.stopping.cancelled() => Err(Status::unavailable("the worker ends")),
        }
    }

    async fn tokenize(
        &self,
        request: Request<TokenizeRequest>,
    ) -> Result<Response<TokenizeResponse>, Status> {
        let work = Duration::from_millis(self.0.script.tokenize_work_ms);
        tokio::task::spawn_blocking(move || work_for(work))
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let text = request.into_inner().request.unwrap_or_default().text;
        let token_ids = text.bytes().map(u32::from).collect();
        Ok(Response::new(TokenizeResponse {
            token_ids,
            prompt: String::new(),
        }))
    }

    async fn detokenize(
        &self,
        request: Request<DetokenizeRequest>,
    ) -> Result<Response<DetokenizeResponse>, Status> {
        let ids = request.into_inner().token_ids.into_iter();
        let bytes: Vec<u8> = ids.map(|id| u8::try_from(id).unwrap_or(b'?')).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Response::new(DetokenizeResponse { text }))
    }

    async fn watch_stats(
        &self,
        request: Request<WatchStatsRequest>,
    ) -> Result<Response<Self::WatchStatsStream>, Status> {
        let interval = request
            .into_inner()
            .interval
            .and_then(|d| Duration::try_from(d).ok());
        let interval = interval
            .unwrap_or(Duration::from_secs(1))
            .max(Duration::from_millis(1));
        let worker = Arc::clone(&self.0);
        let ticks = (tokio::time::interval(interval), 0);
        let ticks = stream::unfold(ticks, move |(mut ticks, mut reports)| {
            let worker = Arc::clone(&worker);
            async move {
                tokio::select! {
                    _ = ticks.tick() => worker.die_of_requests(&mut reports),
                    () = worker.begun.notified() => {}
                }
                Some((Ok(worker.stats()), (ticks, reports)))
            }
        });
        let stats = match self.0.script.stats {
            StatsKind::Ok | StatsKind::Busy => ticks.boxed(),
            StatsKind::Stop => ticks.take(1).boxed(),
            StatsKind::Silent => stream::pending().boxed(),
        };
        let stopping = self.0.stopping.clone().cancelled_owned();
        Ok(Response::new(stats.take_until(stopping).boxed()))
    }

    async fn prepare_weights(
        &self,
        _request: Request<PrepareWeightsRequest>,
    ) -> Result<Response<PrepareWeightsResponse>, Status> {
        Ok(Response::new(PrepareWeightsResponse::default()))
    }

    async fn shutdown(
        &self,
        _request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        report(&self.0.directory, ScriptedEvent::Shutdown);
        match self.0.script.shutdown {
            ShutdownKind::Ok => self.0.stopping.cancel(),
            ShutdownKind::Ignore => {}
            ShutdownKind::Hang => pending().await,
            ShutdownKind::Die => Fault::Kill.strike_soon().await,
        }
        Ok(Response::new(ShutdownResponse {}))
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        if !self.ended {
            report(&self.worker.directory, ScriptedEvent::LoadDropped);
        }
    }
}
