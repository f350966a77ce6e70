//! The worker's side of `hangar.worker.v1.WorkerService`.
//!
//! One model, loaded at most once, used until the worker is asked to end or its engine dies. Each call's
//! span is the child of the caller's.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hangar_client::v1::DataType;
use hangar_worker_protocol::{
    ExitCode,
    v1::{
        DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse, EngineBuilt,
        EngineWarmed, GenerateRequest, GenerateResponse, LoadRequest, LoadResponse,
        PrepareWeightsRequest, PrepareWeightsResponse, ShutdownRequest, ShutdownResponse,
        TokenizeRequest, TokenizeResponse, WatchStatsRequest, WatchStatsResponse,
        load_response::Event, worker_service_server::WorkerService,
    },
};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Request, Response, Status};
use tracing::{Instrument, Span, info_span};

use crate::{
    engine::{
        Engine,
        load::{LoadedModel, load},
    },
    failure::{Failure, is_out_of_memory},
    grpc_error, heap,
    inspect::Inspection,
    load_events::LoadEvents,
    prepared::EntryDraft,
    rpc_threads::RpcThreads,
    shutdown::Shutdown,
    stats::Stats,
    telemetry,
};

/// Longest text in bytes that is split into tokens for a caller: tokens take some two hundred times the memory
/// that their text does, and the worker's memory is limited.
const MAX_TEXT: usize = 1 << 20;

/// Shortest time between two statistics.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Time between two statistics where the caller does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// How long an engine that was asked to end is waited for.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Priority of what nobody waits for, as `nice` has it.
const LOWEST_PRIORITY: i32 = 19;

/// The responses of a streaming call.
type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Clone)]
pub(crate) struct Worker {
    inner: Arc<WorkerState>,
}

struct WorkerState {
    inspection: Inspection,
    stats: Arc<Stats>,
    load_called: AtomicBool,
    load_events: LoadEvents,
    engine: OnceLock<Arc<Engine>>,
    /// Prepared weights that the load has written.
    draft: Mutex<Option<EntryDraft>>,
    shutdown: Shutdown,
    tasks: TaskTracker,
}

impl Worker {
    /// A service for this model. It begins the worker's end when it is asked to, when the load fails, and
    /// when the engine dies.
    pub(crate) fn new(inspection: Inspection, shutdown: Shutdown, threads: RpcThreads) -> Self {
        Self {
            inner: Arc::new(WorkerState {
                inspection,
                stats: Arc::new(Stats::new(threads)),
                load_called: AtomicBool::new(false),
                load_events: LoadEvents::default(),
                engine: OnceLock::new(),
                draft: Mutex::default(),
                shutdown,
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// Returns when every request has got its end.
    pub(crate) async fn idle(&self) {
        if let Some(engine) = self.inner.engine.get() {
            engine.idle().await;
        }
    }

    /// The loaded model, for a call that is to use it.
    fn engine(&self) -> Result<&Arc<Engine>, Status> {
        match self.inner.shutdown.reason() {
            None => self.inner.engine.get().ok_or_else(grpc_error::not_loaded),
            Some(ExitCode::EngineDied | ExitCode::TaskDied) => Err(grpc_error::worker_died()),
            Some(_) => Err(grpc_error::unloaded()),
        }
    }
}

impl WorkerState {
    /// Runs a task that the worker waits for at its end.
    #[expect(
        clippy::disallowed_methods,
        reason = "each of them holds a CriticalTask, by which its panic ends the worker"
    )]
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Loads the model and publishes how far it is. Nobody may listen: the load goes on.
    async fn load(self: Arc<Self>) {
        let _critical = self.shutdown.critical("load");
        match self.build().await {
            Ok(warmed) => self.load_events.publish(Event::Warmed(warmed)),
            Err(failure) => {
                tracing::warn!(
                    reason = failure.reason.name(),
                    why = failure.message,
                    "the load failed"
                );
                self.load_events.publish(Event::Failed(failure.into()));
                self.shutdown.begin(ExitCode::Unusable);
            }
        }
    }

    async fn build(self: &Arc<Self>) -> Result<EngineWarmed, Failure> {
        let started = Instant::now();
        let LoadedModel {
            engine,
            metadata,
            draft,
            sampler,
        } = load(self.inspection.clone(), Arc::clone(&self.stats)).await?;
        *self.draft.lock().unwrap_or_else(PoisonError::into_inner) = draft;
        let prepared = metadata.prepared;
        let kind = self.inspection.kind.as_str_name();
        tracing::info!(elapsed = ?started.elapsed(), kind, prepared, "the engine is built");
        let engine = Arc::new(engine);
        self.spawn(exit_when_engine_dies(Arc::clone(&engine), Arc::clone(self)));
        let built = EngineBuilt {
            metadata: Some(metadata),
        };
        self.load_events.publish(Event::EngineBuilt(built));
        let warming = Instant::now();
        engine
            .warm_up()
            .await
            .map_err(|status| cannot_answer(&self.inspection, &status))?;
        let elapsed = warming.elapsed();
        if let Some(sampler) = sampler {
            let certain = self.inspection.device_plan.certain;
            let finish = move || sampler.finish(certain);
            // It fails only when the process is about to end.
            let _ = tokio::task::spawn_blocking(finish).await;
        }
        tracing::info!(?elapsed, "a first request was answered");
        // What the load has left counts against nobody. It fails only when the process is about to end.
        let _ = tokio::task::spawn_blocking(heap::trim).await;
        engine.measure_memory()?;
        let context_length = u32::try_from(engine.context_length()).unwrap_or(u32::MAX);
        // The load is called once, so the place is empty.
        let _ = self.engine.set(engine);
        Ok(EngineWarmed {
            elapsed: elapsed.try_into().ok(),
            context_length,
        })
    }
}

/// Ends the worker when the engine dies without having been stopped.
async fn exit_when_engine_dies(engine: Arc<Engine>, inner: Arc<WorkerState>) {
    let _critical = inner.shutdown.critical("engine watch");
    engine.dead().await;
    if !engine.is_stopped() {
        tracing::error!("the engine died");
        inner.shutdown.begin(ExitCode::EngineDied);
    }
}

fn cannot_answer(inspection: &Inspection, status: &Status) -> Failure {
    let panic = telemetry::last_panic().filter(|_| status.code() == Code::Unavailable);
    let why = match &panic {
        Some(panic) => format!("its engine panicked ({panic})"),
        None => status.message().trim_end_matches('.').to_owned(),
    };
    if is_out_of_memory(&why) {
        return Failure::memory(format!(
            "The model was loaded, but the GPU's memory is not enough to answer: {why}. Unload other models \
             from it, or give this one a smaller kv_cache or context_length."
        ));
    }
    let what_to_do = match inspection.dtype {
        DataType::Bf16 if !inspection.device_plan.device.is_gpu() => {
            "A CPU cannot compute in BF16: set dtype to f16 or f32, or leave it out."
        }
        DataType::F16 => "If the weights are intact, set dtype to f32.",
        _ => "Check that config.json and weights belong together.",
    };
    Failure::unusable(format!(
        "The model was loaded but cannot answer: {why}. {what_to_do}"
    ))
}

fn span<T>(name: &'static str, request: &Request<T>) -> Span {
    let span = info_span!(
        "worker",
        otel.name = name,
        otel.kind = "server",
        gen_ai.usage.input_tokens = tracing::field::Empty,
        gen_ai.usage.output_tokens = tracing::field::Empty,
    );
    telemetry::adopt(&span, request.metadata());
    span
}

#[tonic::async_trait]
impl WorkerService for Worker {
    type LoadStream = ResponseStream<LoadResponse>;
    type GenerateStream = ResponseStream<GenerateResponse>;
    type WatchStatsStream = ResponseStream<WatchStatsResponse>;

    async fn load(
        &self,
        request: Request<LoadRequest>,
    ) -> Result<Response<Self::LoadStream>, Status> {
        let inner = &self.inner;
        if !inner.load_called.swap(true, Ordering::SeqCst) {
            let span = span("worker.load", &request);
            inner.spawn(Arc::clone(inner).load().instrument(span));
        }
        let (caller, stream) = mpsc::channel(4);
        let critical = inner.shutdown.critical("load events");
        let follower = inner.load_events.follow(inner.shutdown.clone(), caller);
        inner.spawn(async move {
            let _critical = critical;
            follower.run().await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn generate(
        &self,
        request: Request<GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let engine = self.engine()?;
        let span = span("worker.generate", &request);
        let stream = engine
            .generate(request.into_inner())
            .instrument(span)
            .await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn embed(
        &self,
        request: Request<EmbedRequest>,
    ) -> Result<Response<EmbedResponse>, Status> {
        let engine = self.engine()?;
        let span = span("worker.embed", &request);
        let answer = engine.embed(request.into_inner()).instrument(span).await?;
        Ok(Response::new(answer))
    }

    async fn tokenize(
        &self,
        request: Request<TokenizeRequest>,
    ) -> Result<Response<TokenizeResponse>, Status> {
        let engine = self.engine()?;
        let span = span("worker.tokenize", &request);
        let request = request.into_inner().request.unwrap_or_default();
        if request.text.len() > MAX_TEXT {
            return Err(grpc_error::invalid_field("text", "must have at most 1 MiB"));
        }
        let (own, bytes) = (Arc::clone(engine), request.encoded_len());
        let tokens = move |cancelled: &CancellationToken| own.tokenize(request, cancelled);
        let tokens = engine.call_work().run(bytes, tokens);
        let (token_ids, prompt) = tokens.instrument(span).await?;
        Ok(Response::new(TokenizeResponse { token_ids, prompt }))
    }

    async fn detokenize(
        &self,
        request: Request<DetokenizeRequest>,
    ) -> Result<Response<DetokenizeResponse>, Status> {
        let engine = self.engine()?;
        let span = span("worker.detokenize", &request);
        let request = request.into_inner();
        let (own, bytes) = (Arc::clone(engine), request.encoded_len());
        let text = move |cancelled: &CancellationToken| own.detokenize(&request, cancelled);
        let text = engine.call_work().run(bytes, text);
        let text = text.instrument(span).await?;
        Ok(Response::new(DetokenizeResponse { text }))
    }

    async fn watch_stats(
        &self,
        request: Request<WatchStatsRequest>,
    ) -> Result<Response<Self::WatchStatsStream>, Status> {
        let interval = match request.into_inner().interval {
            None => DEFAULT_INTERVAL,
            Some(interval) => Duration::try_from(interval)
                .map_err(|_| grpc_error::invalid_field("interval", "is negative"))?
                .max(SHORTEST_INTERVAL),
        };
        let (stats, stream) = mpsc::channel(1);
        let inner = Arc::clone(&self.inner);
        self.inner.spawn(async move {
            let _critical = inner.shutdown.critical("statistics");
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = inner.stats.long_prompt() => {}
                    _ = inner.shutdown.begun() => return,
                    () = stats.closed() => return,
                }
                if stats.send(Ok(inner.stats.snapshot())).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn prepare_weights(
        &self,
        request: Request<PrepareWeightsRequest>,
    ) -> Result<Response<PrepareWeightsResponse>, Status> {
        self.engine()?;
        let draft = self.inner.draft.lock();
        let draft = draft.unwrap_or_else(PoisonError::into_inner).take();
        let Some(draft) = draft else {
            return Ok(Response::new(PrepareWeightsResponse { bytes: 0 }));
        };
        let bytes = finish(draft, self.inner.stats.threads().clone())
            .instrument(span("worker.prepare_weights", &request))
            .await?;
        Ok(Response::new(PrepareWeightsResponse { bytes }))
    }

    async fn shutdown(
        &self,
        _request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        tracing::info!("asked to end");
        self.inner.shutdown.begin(ExitCode::Requested);
        if let Some(engine) = self.inner.engine.get() {
            engine.stop();
            if tokio::time::timeout(STOP_TIMEOUT, engine.dead())
                .await
                .is_err()
            {
                tracing::warn!("the engine did not end in time");
            }
        }
        Ok(Response::new(ShutdownResponse {}))
    }
}

/// Makes an entry of prepared weights, on a thread that stands back behind requests.
async fn finish(draft: EntryDraft, threads: RpcThreads) -> Result<u64, Status> {
    let started = Instant::now();
    let (done, finished) = oneshot::channel();
    std::thread::Builder::new()
        .name("prepare".into())
        .spawn(move || {
            let _call = threads.enter();
            // Without an id: this thread only.
            if let Err(error) = rustix::process::setpriority_process(None, LOWEST_PRIORITY) {
                tracing::debug!(%error, "the priority could not be lowered");
            }
            // Nobody waits any more only when the process is about to end.
            let _ = done.send(draft.finish());
        })
        .map_err(|e| grpc_error::internal(format!("no thread could be started: {e}")))?;
    let bytes = finished
        .await
        .map_err(|_| grpc_error::internal("the thread that prepares weights ended by itself"))?
        .map_err(|e| grpc_error::internal(format!("prepared weights could not be written: {e}")))?;
    tracing::info!(bytes, elapsed = ?started.elapsed(), "prepared weights were written");
    Ok(bytes)
}
