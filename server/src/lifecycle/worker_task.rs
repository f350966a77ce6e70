//! One worker process from its start to its end, as a task that reports to the model's driver.

mod failures;
mod heartbeat;
mod launch;
mod lifetime;
mod load;

use std::{sync::Arc, time::Duration};

use failures::{cannot_start, connection_closed, never_ready, never_started, worker_exited};
use launch::FoundFiles;
pub(super) use launch::WorkerLaunch;
use tokio::{
    sync::{OnceCell, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::{
    context::Context,
    file_system::TimeLimit,
    file_watch::LoadedFiles,
    source::{ModelLocation, SourceError},
    worker_monitor::WorkerHeartbeat,
};
use crate::{
    model::{Failure, ModelMetadata, Reason},
    prepared::PreparedLease,
    worker::{
        self, HandshakeError, Inspection, ModelFiles, WorkerClient, WorkerConfig, WorkerProcess,
    },
};

/// What a worker reports. [`WorkerReport::Exited`] always comes, and comes last.
#[derive(Debug)]
pub(super) enum WorkerReport {
    /// The files that it is about to read, where they can be watched.
    Files(Option<LoadedFiles>),
    /// The process runs.
    Spawned {
        pid: u32,
        heartbeat: WorkerHeartbeat,
    },
    /// The files look usable.
    Inspected {
        inspection: Box<Inspection>,
        client: Box<WorkerClient>,
    },
    /// The engine is built.
    EngineBuilt(Box<ModelMetadata>),
    /// A token was generated, and sequences may be this long, if not as was told before.
    Warmed { context_length: Option<u32> },
    /// It cannot go on, but may still live.
    Fault(Failure),
    /// No process lives any more.
    Exited(Failure),
}

/// The driver's end of the task that sees a worker through. Dropping it kills the worker.
#[derive(Debug)]
pub(super) struct WorkerTask {
    reports: mpsc::Receiver<WorkerReport>,
    signals: WorkerSignals,
}

/// What the driver wants of a worker.
#[derive(Clone, Debug)]
struct WorkerSignals {
    build: CancellationToken,
    stop: CancellationToken,
    kill: CancellationToken,
}

/// What has to be given back, however a run ends.
#[derive(Default)]
struct WorkerResources {
    process: OnceCell<WorkerProcess>,
    /// Of prepared weights, once the worker has reported what it makes use of.
    lease: OnceCell<PreparedLease>,
}

/// Time that a worker which reported its own failure, or lost its connection, has to end by itself.
const EXIT_GRACE: Duration = Duration::from_secs(1);

impl WorkerTask {
    /// What kills the worker from elsewhere.
    pub(super) fn kill_token(&self) -> CancellationToken {
        self.signals.kill.clone()
    }

    /// What comes next. Safe to cancel. `None` after [`WorkerReport::Exited`].
    pub(super) async fn next(&mut self) -> Option<WorkerReport> {
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

impl Drop for WorkerTask {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One life of a worker, which is held once it is started.
async fn run_worker(
    context: Arc<Context>,
    launch: WorkerLaunch,
    signals: WorkerSignals,
    reports: &mpsc::Sender<WorkerReport>,
    resources: &WorkerResources,
) {
    let found = match find_files(&context, &launch, &signals, reports).await {
        Ok(found) => found,
        Err(failure) => return report(reports, WorkerReport::Exited(failure)).await,
    };
    // On disk before the worker is started: it may take the server down with it.
    if let Some(attempt) = launch.attempt.clone()
        && let Err(error) = context.catalog.begin_attempt(&launch.model, attempt).await
    {
        return report(reports, WorkerReport::Exited(error.into())).await;
    }
    let config = launch.config(&context, found);
    let WorkerLaunch { program, span, .. } = launch;
    let process =
        WorkerProcess::spawn(&context.spawner, program, &config.model, &context.tasks).await;
    let exited = match process {
        Ok((process, starting)) => {
            let process = resources.process.get_or_init(|| async { process }).await;
            let heartbeat = WorkerHeartbeat::default();
            report(
                reports,
                WorkerReport::Spawned {
                    pid: process.pid(),
                    heartbeat: heartbeat.clone(),
                },
            )
            .await;
            let exchange = WorkerExchange {
                context: &context,
                config: &config,
                signals: &signals,
                reports,
                heartbeat,
                pid: process.pid(),
                lease: &resources.lease,
            };
            supervise(process, exchange.run(starting, span), &signals, reports).await
        }
        Err(error) => cannot_start(&error),
    };
    report(reports, WorkerReport::Exited(exited)).await;
}

/// Finds the files that the worker is to read, and reports how they are now.
///
/// # Errors
///
/// Why there will be no worker.
async fn find_files(
    context: &Context,
    launch: &WorkerLaunch,
    signals: &WorkerSignals,
    reports: &mpsc::Sender<WorkerReport>,
) -> Result<FoundFiles, Failure> {
    let roots = &context.roots;
    // One for all of it, longer than that of the checks, which have a caller who wants an answer now: a load may take its
    // time, and a disk in the network that is slow, or whose server starts anew, answers within seconds.
    let limit = TimeLimit::new(context.limits.ready_timeout);
    // Looked up anew for each run: a link may have been changed since the model was registered.
    let (location, spec) = tokio::select! {
        found = roots.find(&launch.spec, limit) => found?,
        () = signals.kill.cancelled() => return Err(never_started()),
    };
    let files = match &launch.downloaded {
        Some(downloaded) => downloaded.clone(),
        None => model_files(location)?,
    };
    let loaded = tokio::select! {
        loaded = LoadedFiles::record(&spec, &files, roots.file_systems(), limit) => loaded,
        () = signals.kill.cancelled() => return Err(never_started()),
    };
    let loaded = loaded.map_err(SourceError::Unresponsive)?;
    report(reports, WorkerReport::Files(loaded)).await;
    Ok(FoundFiles { spec, files })
}

fn model_files(location: ModelLocation) -> Result<ModelFiles, Failure> {
    match location {
        ModelLocation::Path(path) => Ok(ModelFiles::Path(path)),
        ModelLocation::Demo => Ok(ModelFiles::Demo),
        ModelLocation::Hub => Err(Failure::new(
            Reason::HubUnavailable,
            "the model's files were not downloaded; load it again",
        )),
    }
}

/// Waits for the end of `process`, carries out `signals`, and reports how `exchange` with it ended.
async fn supervise(
    process: &WorkerProcess,
    exchange: impl Future<Output = Result<(), Disconnected>>,
    signals: &WorkerSignals,
    reports: &mpsc::Sender<WorkerReport>,
) -> Failure {
    let mut exchange = Box::pin(exchange);
    let mut connected = true;
    let mut killed = false;
    let exit = loop {
        tokio::select! {
            exit = process.exited() => break exit,
            () = signals.kill.cancelled(), if !killed => {
                process.kill();
                killed = true;
            }
            end = &mut exchange, if connected => {
                connected = false;
                match (end, timeout(EXIT_GRACE, process.exited()).await) {
                    (Err(Disconnected::Failed(failure)), _) => report(reports, WorkerReport::Fault(failure)).await,
                    (_, Ok(exit)) => break exit,
                    (Err(Disconnected::ConnectionLost), Err(_)) => report(reports, WorkerReport::Fault(connection_closed())).await,
                    (Ok(()), Err(_)) => {}
                }
            }
        }
    };
    // What the worker reported before it ended may still be on its way. What is killed has nothing to say.
    if connected
        && !killed
        && let Ok(Err(Disconnected::Failed(failure))) = timeout(EXIT_GRACE, exchange).await
    {
        report(reports, WorkerReport::Fault(failure)).await;
    }
    worker_exited(exit, &process.stderr_tail().await)
}

/// The exchange with one worker.
struct WorkerExchange<'a> {
    context: &'a Context,
    config: &'a WorkerConfig,
    signals: &'a WorkerSignals,
    reports: &'a mpsc::Sender<WorkerReport>,
    heartbeat: WorkerHeartbeat,
    pid: u32,
    /// Of prepared weights, once the worker has reported what it makes use of.
    lease: &'a OnceCell<PreparedLease>,
}

/// An exchange that broke off.
enum Disconnected {
    /// The worker gave the reason, or kept silent for too long.
    Failed(Failure),
    /// The connection went; the end of the process says more.
    ConnectionLost,
}

impl WorkerExchange<'_> {
    async fn run(self, starting: worker::StartingWorker, span: Span) -> Result<(), Disconnected> {
        let ready_timeout = self.context.limits.ready_timeout;
        let ready = match timeout(ready_timeout, starting.handshake(self.config)).await {
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
        self.context.engine.record(&ready, &self.config.device);
        let inspection = Box::new(ready.outcome.map_err(Disconnected::Failed)?);
        if let Some(cache) = &self.context.prepared
            && let Some(key) = &inspection.prepared_key
            && let Some(lease) = cache.lease(&self.config.model, self.pid, key)
        {
            // The worker says so once.
            let _ = self.lease.set(lease);
        }
        let mut client = WorkerClient::connect(self.config.socket.clone())
            .await
            .map_err(|_| Disconnected::ConnectionLost)?;
        report(
            self.reports,
            WorkerReport::Inspected {
                inspection,
                client: Box::new(client.clone()),
            },
        )
        .await;
        tokio::select! {
            () = self.signals.stop.cancelled() => {}
            ended = self.serve(client.clone(), span) => ended?,
        }
        // The driver kills it if its exit does not come.
        client.shutdown().await;
        Ok(())
    }

    async fn serve(&self, client: WorkerClient, span: Span) -> Result<(), Disconnected> {
        self.signals.build.cancelled().await;
        let context_length = self.load(client.clone()).instrument(span).await?;
        self.record_device_memory(client.clone()).await;
        report(self.reports, WorkerReport::Warmed { context_length }).await;
        let prepare = async {
            if let Some(lease) = self.lease.get() {
                let mut client = client.clone();
                lease.write(client.prepare_weights()).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = self.follow_stats(client.clone()) => ended,
            never = prepare => never,
        }
    }
}

/// Reports to a driver, which outlives the run unless the server is being torn down.
async fn report(reports: &mpsc::Sender<WorkerReport>, report: WorkerReport) {
    let _ = reports.send(report).await;
}
