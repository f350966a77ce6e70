//! One worker process from its start to its end, as a task that reports to the model's driver.

mod failures;
mod heartbeat;
mod launch;
mod lifetime;

use std::{path::PathBuf, sync::Arc, time::Duration};

use hangar_client::v1::{DemoSource, ModelMetadata};
use hangar_worker_protocol::v1::{
    LoadRequest, ModelInspection, ShutdownRequest, WorkerConfig, load_response::Event,
    worker_config,
};
use tokio::{
    sync::{OnceCell, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::{
    devices::CPU,
    files::Loaded,
    fleet::Context,
    source::{ModelLocation, SourceError},
    worker_monitor::WorkerHeartbeat,
};
use crate::{
    model::{Failure, ModelId, Reason},
    prepared::Lease,
    telemetry,
    worker::{self, Client, HandshakeError, Process},
};
use failures::{
    cannot_start, connection_closed, never_ready, never_started, reported_failure, worker_exited,
};
use lifetime::{SessionResources, run_session};

pub(super) use launch::WorkerLaunch;

/// What a worker reports. [`Report::Exited`] always comes, and comes last.
#[derive(Debug)]
pub(super) enum Report {
    /// The files that it is about to read, where they can be watched.
    Files(Loaded),
    /// The process runs.
    Spawned {
        pid: u32,
        heartbeat: WorkerHeartbeat,
    },
    /// The files look usable.
    Inspected {
        inspection: Box<ModelInspection>,
        client: Box<Client>,
    },
    /// The engine is built.
    EngineBuilt(Box<ModelMetadata>),
    /// A token was generated.
    Warmed,
    /// It cannot go on, but may still live.
    Fault(Failure),
    /// No process lives any more.
    Exited(Failure),
}

/// The driver's end of a session. Dropping it kills the worker.
#[derive(Debug)]
pub(super) struct WorkerSession {
    reports: mpsc::Receiver<Report>,
    signals: SessionSignals,
}

/// What the driver wants of a session.
#[derive(Clone, Debug)]
struct SessionSignals {
    build: CancellationToken,
    stop: CancellationToken,
    kill: CancellationToken,
}

/// Time that a worker which reported its own failure, or lost its connection, has to end by itself.
const EXIT_GRACE: Duration = Duration::from_secs(1);

// === impl WorkerSession ===

impl WorkerSession {
    /// Starts a worker for `launch`.
    pub(super) fn start(context: &Arc<Context>, launch: WorkerLaunch) -> Self {
        let (sender, reports) = mpsc::channel(16);
        let signals = SessionSignals {
            build: CancellationToken::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
        };
        let lifetime = run_session(context.clone(), launch, signals.clone(), sender);
        context.tasks.background("worker-run", lifetime);
        Self { reports, signals }
    }

    /// What comes next. Safe to cancel. `None` after [`Report::Exited`].
    pub(super) async fn next(&mut self) -> Option<Report> {
        self.reports.recv().await
    }

    /// Lets the worker build its engine.
    pub(super) fn build(&self) {
        self.signals.build.cancel();
    }

    /// Asks the worker to exit.
    pub(super) fn stop(&self) {
        self.signals.stop.cancel();
    }

    /// Kills the worker.
    pub(super) fn kill(&self) {
        self.signals.kill.cancel();
    }
}

impl Drop for WorkerSession {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One life of a worker, which is held once it is started.
async fn run_worker(
    context: Arc<Context>,
    launch: WorkerLaunch,
    signals: SessionSignals,
    reports: &mpsc::Sender<Report>,
    resources: &SessionResources,
) {
    let WorkerLaunch {
        model,
        source,
        mut config,
        program,
        attempt,
        span,
    } = launch;
    if config.source.is_none() {
        // Looked up anew for each run: a link may have been changed since the model was registered.
        let located = tokio::select! {
            located = context.roots.locate(&source) => located,
            () = signals.kill.cancelled() => return report(reports, Report::Exited(never_started())).await,
        };
        config.source = match config_source(located) {
            Ok(source) => Some(source),
            Err(failure) => return report(reports, Report::Exited(failure)).await,
        };
    }
    if let Err(error) = context.roots.resolve_beside(&mut config).await {
        return report(reports, Report::Exited(error.into())).await;
    }
    let files = tokio::select! {
        files = Loaded::record(&source, &config) => files,
        () = signals.kill.cancelled() => return report(reports, Report::Exited(never_started())).await,
    };
    if let Some(files) = files {
        report(reports, Report::Files(files)).await;
    }
    // On disk before the worker is started: it may take the server down with it.
    if let Some(attempt) = attempt
        && let Err(error) = context.catalog.begin_attempt(&model, attempt).await
    {
        return report(reports, Report::Exited(error.into())).await;
    }
    if let Some(cache) = &context.prepared {
        cache.configure(&mut config);
    }
    let socket = PathBuf::from(&config.socket_path);
    let exited = match Process::spawn(&context.spawner, program, &model, &context.tasks).await {
        Ok((process, starting)) => {
            let process = resources.process.get_or_init(|| async { process }).await;
            let heartbeat = WorkerHeartbeat::default();
            report(
                reports,
                Report::Spawned {
                    pid: process.pid(),
                    heartbeat: heartbeat.clone(),
                },
            )
            .await;
            let conversation = Conversation {
                context: &context,
                socket: socket.clone(),
                signals: &signals,
                reports,
                heartbeat,
                model: &model,
                pid: process.pid(),
                on_device: config.device != CPU,
                lease: &resources.lease,
            };
            supervise(
                process,
                conversation.run(starting, &config, span),
                &signals,
                reports,
            )
            .await
        }
        Err(error) => cannot_start(&error),
    };
    // The worker leaves its socket behind when it is killed, and there may be none yet.
    let _ = tokio::fs::remove_file(&socket).await;
    report(reports, Report::Exited(exited)).await;
}

fn config_source(
    located: Result<ModelLocation, SourceError>,
) -> Result<worker_config::Source, Failure> {
    match located? {
        ModelLocation::Path(path) => Ok(worker_config::Source::Path(
            path.to_string_lossy().into_owned(),
        )),
        ModelLocation::Demo => Ok(worker_config::Source::Demo(DemoSource {})),
        ModelLocation::Hub => Err(Failure::new(
            Reason::HubUnavailable,
            "the model's files were not downloaded; load it again",
        )),
    }
}

/// Waits for the end of `process`, carries out `signals`, and reports how `conversation` with it ended.
async fn supervise(
    process: &Process,
    conversation: impl Future<Output = Result<(), Disconnected>>,
    signals: &SessionSignals,
    reports: &mpsc::Sender<Report>,
) -> Failure {
    let mut conversation = Box::pin(conversation);
    let mut connected = true;
    let mut killed = false;
    let exit = loop {
        tokio::select! {
            exit = process.exited() => break exit,
            () = signals.kill.cancelled(), if !killed => {
                process.kill();
                killed = true;
            }
            end = &mut conversation, if connected => {
                connected = false;
                match (end, timeout(EXIT_GRACE, process.exited()).await) {
                    (Err(Disconnected::Failed(failure)), _) => report(reports, Report::Fault(failure)).await,
                    (_, Ok(exit)) => break exit,
                    (Err(Disconnected::ConnectionLost), Err(_)) => report(reports, Report::Fault(connection_closed())).await,
                    (Ok(()), Err(_)) => {}
                }
            }
        }
    };
    // What the worker said before it ended may still be on its way. What is killed has nothing to say.
    if connected
        && !killed
        && let Ok(Err(Disconnected::Failed(failure))) = timeout(EXIT_GRACE, conversation).await
    {
        report(reports, Report::Fault(failure)).await;
    }
    worker_exited(exit, &process.stderr_tail().await)
}

/// The conversation with one worker.
struct Conversation<'a> {
    context: &'a Context,
    socket: PathBuf,
    signals: &'a SessionSignals,
    reports: &'a mpsc::Sender<Report>,
    heartbeat: WorkerHeartbeat,
    model: &'a ModelId,
    pid: u32,
    /// Whether the model is on a device other than the CPU.
    on_device: bool,
    /// Of prepared weights, once the worker has told what it makes use of.
    lease: &'a OnceCell<Lease>,
}

/// A conversation that broke off.
enum Disconnected {
    /// The worker said why, or kept silent for too long.
    Failed(Failure),
    /// The connection went; the end of the process tells more.
    ConnectionLost,
}

// === impl Conversation ===

impl Conversation<'_> {
    async fn run(
        self,
        starting: worker::Starting,
        config: &WorkerConfig,
        span: Span,
    ) -> Result<(), Disconnected> {
        let ready_timeout = self.context.limits.ready_timeout;
        let ready = match timeout(ready_timeout, starting.handshake(config)).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(HandshakeError::Closed)) => return Err(Disconnected::ConnectionLost),
            Ok(Err(error)) => {
                return Err(Disconnected::Failed(Failure::new(
                    Reason::WorkerDied,
                    error.to_string(),
                )));
            }
            Err(_) => return Err(Disconnected::Failed(never_ready(ready_timeout))),
        };
        self.context
            .engine_version
            .store(Some(Arc::new(ready.engine_version)));
        let inspection = Box::new(
            ready
                .outcome
                .map_err(|failure| Disconnected::Failed(reported_failure(failure)))?,
        );
        if let Some(cache) = &self.context.prepared
            && let Some(lease) = cache.lease(self.model, self.pid, &inspection)
        {
            // The worker tells once.
            let _ = self.lease.set(lease);
        }
        let mut client = worker::connect(self.socket.clone())
            .await
            .map_err(|_| Disconnected::ConnectionLost)?;
        report(
            self.reports,
            Report::Inspected {
                inspection,
                client: Box::new(client.clone()),
            },
        )
        .await;
        tokio::select! {
            () = self.signals.stop.cancelled() => {}
            ended = self.serve(client.clone(), span) => ended?,
        }
        // Whether or not it answers, its exit is what counts; the driver kills it if that does not come.
        let _ = client.shutdown(ShutdownRequest {}).await;
        Ok(())
    }

    async fn serve(&self, client: Client, span: Span) -> Result<(), Disconnected> {
        self.signals.build.cancelled().await;
        self.load(client.clone()).instrument(span).await?;
        self.record_device_memory(client.clone()).await;
        report(self.reports, Report::Warmed).await;
        let prepare = async {
            if let Some(lease) = self.lease.get() {
                lease.write(client.clone()).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = self.follow_stats(client.clone()) => ended,
            never = prepare => never,
        }
    }

    async fn load(&self, mut client: Client) -> Result<(), Disconnected> {
        let mut request = tonic::Request::new(LoadRequest {});
        telemetry::propagate(request.metadata_mut());
        let mut load = client
            .load(request)
            .await
            .map_err(|_| Disconnected::ConnectionLost)?
            .into_inner();
        loop {
            let response = load
                .message()
                .await
                .map_err(|_| Disconnected::ConnectionLost)?
                .ok_or(Disconnected::ConnectionLost)?;
            match response.event {
                Some(Event::EngineBuilt(built)) => {
                    let metadata = Box::new(built.metadata.unwrap_or_default());
                    if let Some(lease) = self.lease.get() {
                        lease.built(metadata.prepared).await;
                    }
                    report(self.reports, Report::EngineBuilt(metadata)).await;
                }
                Some(Event::Warmed(_)) => return Ok(()),
                Some(Event::Failed(failure)) => {
                    return Err(Disconnected::Failed(reported_failure(failure)));
                }
                None => return Err(Disconnected::ConnectionLost),
            }
        }
    }
}

/// Reports to a driver, which outlives the run unless the server is being torn down.
async fn report(reports: &mpsc::Sender<Report>, report: Report) {
    let _ = reports.send(report).await;
}
