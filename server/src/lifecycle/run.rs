//! One worker process from its start to its end, as a task that reports to the model's driver.

mod failures;
mod heartbeat;
mod life;
mod task;

use std::{path::PathBuf, sync::Arc, time::Duration};

use hangar_client::v1::{DemoSource, ModelMetadata};
use hangar_client::worker::v1::{
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
    observer::WorkerHeartbeat,
    source::{ModelLocation, SourceError},
};
use crate::{
    model::{Failure, ModelId, Reason},
    prepared::Lease,
    telemetry,
    worker::{self, Client, HandshakeError, Process},
};
use failures::{cannot_start, deaf, died, silent, told, unstarted};
use life::{Held, live};

pub(super) use task::Task;

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

/// The driver's end of a run. Dropping it kills the worker.
#[derive(Debug)]
pub(super) struct Run {
    reports: mpsc::Receiver<Report>,
    orders: Orders,
}

/// What the driver wants of a run.
#[derive(Clone, Debug)]
struct Orders {
    build: CancellationToken,
    stop: CancellationToken,
    kill: CancellationToken,
}

/// Time that a worker which reported its own failure, or lost its connection, has to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(1);

// === impl Run ===

impl Run {
    /// Starts a worker for `task`.
    pub(super) fn start(context: &Arc<Context>, task: Task) -> Self {
        let (sender, reports) = mpsc::channel(16);
        let orders = Orders {
            build: CancellationToken::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
        };
        let life = live(context.clone(), task, orders.clone(), sender);
        context.tasks.errand("worker-run", life);
        Self { reports, orders }
    }

    /// What comes next. Safe to cancel. `None` after [`Report::Exited`].
    pub(super) async fn next(&mut self) -> Option<Report> {
        self.reports.recv().await
    }

    /// Lets the worker build its engine.
    pub(super) fn build(&self) {
        self.orders.build.cancel();
    }

    /// Asks the worker to exit.
    pub(super) fn stop(&self) {
        self.orders.stop.cancel();
    }

    /// Kills the worker.
    pub(super) fn kill(&self) {
        self.orders.kill.cancel();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One life of a worker, which is held once it is started.
async fn attempt(
    context: Arc<Context>,
    task: Task,
    orders: Orders,
    reports: &mpsc::Sender<Report>,
    held: &Held,
) {
    let Task {
        model,
        source,
        mut config,
        program,
        attempt,
        span,
    } = task;
    if config.source.is_none() {
        // Looked up anew for each run: a link may have been changed since the model was registered.
        let located = tokio::select! {
            located = context.roots.locate(&source) => located,
            () = orders.kill.cancelled() => return tell(reports, Report::Exited(unstarted())).await,
        };
        config.source = match config_source(located) {
            Ok(source) => Some(source),
            Err(failure) => return tell(reports, Report::Exited(failure)).await,
        };
    }
    if let Err(error) = context.roots.resolve_beside(&mut config).await {
        return tell(reports, Report::Exited(error.into())).await;
    }
    let files = tokio::select! {
        files = Loaded::look(&source, &config) => files,
        () = orders.kill.cancelled() => return tell(reports, Report::Exited(unstarted())).await,
    };
    if let Some(files) = files {
        tell(reports, Report::Files(files)).await;
    }
    // On disk before the worker is started: it may take the server down with it.
    if let Some(attempt) = attempt
        && let Err(error) = context.catalog.begin_attempt(&model, attempt).await
    {
        return tell(reports, Report::Exited(error.into())).await;
    }
    if let Some(cache) = &context.prepared {
        cache.tell(&mut config);
    }
    let socket = PathBuf::from(&config.socket_path);
    let exited = match Process::spawn(&context.spawner, program, &model, &context.tasks).await {
        Ok((process, starting)) => {
            let process = held.process.get_or_init(|| async { process }).await;
            let heartbeat = WorkerHeartbeat::default();
            tell(
                reports,
                Report::Spawned {
                    pid: process.pid(),
                    heartbeat: heartbeat.clone(),
                },
            )
            .await;
            let talk = Talk {
                context: &context,
                socket: socket.clone(),
                orders: &orders,
                reports,
                heartbeat,
                model: &model,
                pid: process.pid(),
                on_device: config.device != CPU,
                lease: &held.lease,
            };
            attend(process, talk.run(starting, &config, span), &orders, reports).await
        }
        Err(error) => cannot_start(&error),
    };
    // The worker leaves its socket behind when it is killed, and there may be none yet.
    let _ = tokio::fs::remove_file(&socket).await;
    tell(reports, Report::Exited(exited)).await;
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

/// Waits for the end of `process`, carries out `orders`, and reports how `talk` with it ended.
async fn attend(
    process: &Process,
    talk: impl Future<Output = Result<(), Lost>>,
    orders: &Orders,
    reports: &mpsc::Sender<Report>,
) -> Failure {
    let mut talk = Box::pin(talk);
    let mut talking = true;
    let mut killed = false;
    let exit = loop {
        tokio::select! {
            exit = process.exited() => break exit,
            () = orders.kill.cancelled(), if !killed => {
                process.kill();
                killed = true;
            }
            end = &mut talk, if talking => {
                talking = false;
                match (end, timeout(LAST_WORDS, process.exited()).await) {
                    (Err(Lost::Because(failure)), _) => tell(reports, Report::Fault(failure)).await,
                    (_, Ok(exit)) => break exit,
                    (Err(Lost::Connection), Err(_)) => tell(reports, Report::Fault(deaf())).await,
                    (Ok(()), Err(_)) => {}
                }
            }
        }
    };
    // What the worker said before it ended may still be on its way. What is killed has nothing to say.
    if talking
        && !killed
        && let Ok(Err(Lost::Because(failure))) = timeout(LAST_WORDS, talk).await
    {
        tell(reports, Report::Fault(failure)).await;
    }
    died(exit, &process.last_words().await)
}

/// The conversation with one worker.
struct Talk<'a> {
    context: &'a Context,
    socket: PathBuf,
    orders: &'a Orders,
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
enum Lost {
    /// The worker said why, or kept silent for too long.
    Because(Failure),
    /// The connection went; the end of the process tells more.
    Connection,
}

// === impl Talk ===

impl Talk<'_> {
    async fn run(
        self,
        starting: worker::Starting,
        config: &WorkerConfig,
        span: Span,
    ) -> Result<(), Lost> {
        let ready_timeout = self.context.limits.ready_timeout;
        let ready = match timeout(ready_timeout, starting.handshake(config)).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(HandshakeError::Closed)) => return Err(Lost::Connection),
            Ok(Err(error)) => {
                return Err(Lost::Because(Failure::new(
                    Reason::WorkerDied,
                    error.to_string(),
                )));
            }
            Err(_) => return Err(Lost::Because(silent(ready_timeout))),
        };
        self.context
            .engine_version
            .store(Some(Arc::new(ready.engine_version)));
        let inspection = Box::new(
            ready
                .outcome
                .map_err(|failure| Lost::Because(told(failure)))?,
        );
        if let Some(cache) = &self.context.prepared
            && let Some(lease) = cache.lease(self.model, self.pid, &inspection)
        {
            // The worker tells once.
            let _ = self.lease.set(lease);
        }
        let mut client = worker::connect(self.socket.clone())
            .await
            .map_err(|_| Lost::Connection)?;
        tell(
            self.reports,
            Report::Inspected {
                inspection,
                client: Box::new(client.clone()),
            },
        )
        .await;
        tokio::select! {
            () = self.orders.stop.cancelled() => {}
            ended = self.serve(client.clone(), span) => ended?,
        }
        // Whether or not it answers, its exit is what counts; the driver kills it if that does not come.
        let _ = client.shutdown(ShutdownRequest {}).await;
        Ok(())
    }

    async fn serve(&self, client: Client, span: Span) -> Result<(), Lost> {
        self.orders.build.cancelled().await;
        self.load(client.clone()).instrument(span).await?;
        self.record_device_memory(client.clone()).await;
        tell(self.reports, Report::Warmed).await;
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

    async fn load(&self, mut client: Client) -> Result<(), Lost> {
        let mut request = tonic::Request::new(LoadRequest {});
        telemetry::propagate(request.metadata_mut());
        let mut load = client
            .load(request)
            .await
            .map_err(|_| Lost::Connection)?
            .into_inner();
        loop {
            let response = load
                .message()
                .await
                .map_err(|_| Lost::Connection)?
                .ok_or(Lost::Connection)?;
            match response.event {
                Some(Event::EngineBuilt(built)) => {
                    let metadata = Box::new(built.metadata.unwrap_or_default());
                    if let Some(lease) = self.lease.get() {
                        lease.built(metadata.prepared).await;
                    }
                    tell(self.reports, Report::EngineBuilt(metadata)).await;
                }
                Some(Event::Warmed(_)) => return Ok(()),
                Some(Event::Failed(failure)) => return Err(Lost::Because(told(failure))),
                None => return Err(Lost::Connection),
            }
        }
    }
}

/// Reports to a driver, which outlives the run unless the server is being torn down.
async fn tell(reports: &mpsc::Sender<Report>, report: Report) {
    let _ = reports.send(report).await;
}
