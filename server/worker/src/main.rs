//! hangar-worker: the process that hosts exactly one mistral.rs engine.
//!
//! The `hangar` server starts it with a configuration on its standard input, gets one ready message on its
//! standard output, and uses the model over a private Unix socket. The worker ends when it is asked to,
//! when its engine dies, or when its server is gone, whichever comes first; it is never restarted within
//! itself.

mod call_work;
mod demo;
mod device;
mod engine;
mod failure;
mod grammar;
mod grpc_error;
mod heap;
mod inspect;
mod kv_blocks;
mod lifeline;
mod load_events;
mod media;
mod prepared;
mod quantization;
mod rpc_threads;
mod service;
mod shutdown;
mod stats;
mod stop;
mod telemetry;
mod tool_calls;
mod utf8;
mod version;
mod vision;
mod vocabulary;

use std::{fs::File, io::IsTerminal, path::Path, time::Duration};

use anyhow::Context;
use hangar_client::status::StatusService;
use hangar_worker_protocol::{
    ExitCode, MAX_MESSAGE, PROTOCOL_VERSION,
    frame::{self, FrameError},
    processor::{self, Level},
    v1::{
        WorkerConfig, WorkerReady, worker_config::Source, worker_ready::Outcome,
        worker_service_server::WorkerServiceServer,
    },
};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    failure::Failure, inspect::Inspection, lifeline::exit_now, rpc_threads::RpcThreads,
    service::Worker, shutdown::Shutdown, telemetry::Telemetry, version::ENGINE_VERSION,
};

/// Threads for calls; the engine has its own, and so has what blocks. A second one would wake for each token,
/// and take its time from the engine.
const CALL_THREADS: usize = 1;

/// How long the last answers may take to leave when the worker ends.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// What the program says to a person.
const EXPLANATION: &str = "\
hangar-worker hosts one model for the hangar server, which starts it by itself.
There is nothing to be done with it by hand: run `hangar serve` or `hangar demo`.";

fn main() {
    processor::require();
    exit_now(begin());
}

/// What the program was started for. Not a part of `main`, which may only do what every processor can.
#[inline(never)]
fn begin() -> ExitCode {
    match arguments() {
        Some(code) => code,
        None => run().unwrap_or_else(|e| {
            eprintln!("hangar-worker: {e:#}");
            ExitCode::System
        }),
    }
}

/// Answers a person, if one started the program.
fn arguments() -> Option<ExitCode> {
    match std::env::args().nth(1).as_deref() {
        Some("--version" | "-V") => {
            let version = env!("CARGO_PKG_VERSION");
            let kernels = Level::of_this_build();
            println!("hangar-worker {version} (mistral.rs {ENGINE_VERSION}, {kernels})");
            Some(ExitCode::Requested)
        }
        Some("--help" | "-h") => {
            println!("{EXPLANATION}");
            Some(ExitCode::Requested)
        }
        Some(grammar::ARGUMENT) => Some(grammar::serve().unwrap_or_else(|e| {
            eprintln!("hangar-worker: following grammars: {e:#}");
            ExitCode::System
        })),
        Some(other) => {
            eprintln!("hangar-worker: unknown argument {other}\n{EXPLANATION}");
            Some(ExitCode::Usage)
        }
        None if std::io::stdin().is_terminal() => {
            eprintln!("{EXPLANATION}");
            Some(ExitCode::Usage)
        }
        None => None,
    }
}

/// A worker's life up to the point where its calls can be answered.
fn run() -> anyhow::Result<ExitCode> {
    lifeline::without_backtraces().context("starting anew without backtraces")?;
    lifeline::die_with_parent().context("asking for the parent-death signal")?;
    let mut ready = lifeline::take_stdout().context("taking the standard output")?;
    let config: WorkerConfig = match frame::read(&mut std::io::stdin().lock()) {
        Ok(config) => config,
        Err(FrameError::Empty) => {
            eprintln!("{EXPLANATION}");
            return Ok(ExitCode::Usage);
        }
        Err(e) => return Err(e).context("reading the configuration"),
    };
    if config.protocol_version != PROTOCOL_VERSION {
        let failure = Failure::internal(format!(
            "The server speaks version {} of the protocol with its workers, this worker (hangar-worker \
             {}) version {PROTOCOL_VERSION}. Install server and worker of the same version.",
            config.protocol_version,
            env!("CARGO_PKG_VERSION")
        ));
        write_ready(&mut ready, Outcome::Failure(failure.into()))?;
        return Ok(ExitCode::Usage);
    }
    if !lifeline::is_child_of(config.server_pid) {
        return Ok(ExitCode::Orphan);
    }
    lifeline::watch_stdin().context("starting the lifeline")?;
    let threads = RpcThreads::default();
    let (begun, ended) = (threads.clone(), threads.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CALL_THREADS)
        .on_thread_start(move || begun.begin())
        .on_thread_stop(move || ended.end())
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let code = runtime.block_on(host(config, ready, threads));
    // What calls still have done on other threads is of no use to anybody.
    runtime.shutdown_background();
    code
}

/// Inspects the model, reports to the server, and serves it to the end.
async fn host(
    config: WorkerConfig,
    mut ready: File,
    threads: RpcThreads,
) -> anyhow::Result<ExitCode> {
    let telemetry = Telemetry::start(&config);
    // Those of telemetry among them.
    threads.adopt_all();
    lifeline::disable_core_dumps();
    lifeline::prefer_oom_kill();
    // An interrupt from a terminal reaches the server and its workers: it is the server's to act upon.
    let _interrupts = signal(SignalKind::interrupt()).context("taking interrupts")?;
    // A file that grows beyond a limit is an error of its writer, and not the end of the process.
    let _limits = signal(SignalKind::from_raw(libc::SIGXFSZ)).context("taking file size limits")?;
    let socket = config.socket_path.clone();
    let inspection = tokio::task::spawn_blocking(move || inspect(config)).await?;
    let inspection = match inspection {
        Ok(inspection) => inspection,
        Err(failure) => {
            tracing::warn!(
                reason = failure.reason.name(),
                why = failure.message,
                "the model is unusable"
            );
            write_ready(&mut ready, Outcome::Failure(failure.into()))?;
            flush(telemetry).await;
            return Ok(ExitCode::Unusable);
        }
    };
    // Before the ready message, so that the server's first call finds it.
    let listener = UnixListener::bind(&socket).with_context(|| format!("listening on {socket}"))?;
    let outcome = Outcome::Inspection(inspection.to_message());
    write_ready(&mut ready, outcome)?;
    drop(ready);
    let code = serve(listener, inspection, threads).await?;
    flush(telemetry).await;
    Ok(code)
}

/// Reports to the server what was found.
fn write_ready(output: &mut File, outcome: Outcome) -> Result<(), FrameError> {
    let ready = WorkerReady {
        protocol_version: PROTOCOL_VERSION,
        worker_version: env!("CARGO_PKG_VERSION").into(),
        engine_version: ENGINE_VERSION.into(),
        kernels: Level::of_this_build().name().into(),
        outcome: Some(outcome),
    };
    frame::write(output, &ready)
}

/// Finds and inspects the model's files.
fn inspect(mut config: WorkerConfig) -> Result<Inspection, Failure> {
    let adapters = config.spec.iter_mut().flat_map(|spec| &mut spec.adapters);
    for adapter in adapters {
        if adapter.demo.is_some() {
            let path = demo::unpack_adapter(Path::new(&config.cache_dir))?;
            adapter.path = path.to_string_lossy().into_owned();
        }
    }
    match &config.source {
        Some(Source::Path(path)) => inspect::inspect(&config, Path::new(path)),
        Some(Source::Demo(_)) => {
            let path = demo::unpack(Path::new(&config.cache_dir))?;
            let mut inspection = inspect::inspect(&config, &path)?;
            inspection.metadata.model_name = demo::NAME.into();
            Ok(inspection)
        }
        None => Err(Failure::internal("the configuration names no model")),
    }
}

/// Answers calls until the worker is to end.
async fn serve(
    listener: UnixListener,
    inspection: Inspection,
    threads: RpcThreads,
) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::default();
    let worker = Worker::new(inspection, shutdown.clone(), threads);
    let service = WorkerServiceServer::new(worker.clone()).max_decoding_message_size(MAX_MESSAGE);
    // What the engine and the model's files say gets into errors, and callers' words with it.
    let service = StatusService::new(service);
    let stop_serving = CancellationToken::new();
    let server = Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            stop_serving.clone().cancelled_owned(),
        );
    tokio::pin!(server);
    let code = tokio::select! {
        served = &mut server => {
            served.context("serving")?;
            return Ok(ExitCode::System);
        }
        code = shutdown.begun() => code,
    };
    let finish_requests = async {
        // Requests that were with the engine get their error, and then the connections end.
        worker.idle().await;
        stop_serving.cancel();
    };
    let both = async { tokio::join!(finish_requests, server) };
    if tokio::time::timeout(SHUTDOWN_GRACE, both).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
    Ok(code)
}

/// Sends the traces that are still held back.
async fn flush(telemetry: Telemetry) {
    if let Err(e) = tokio::task::spawn_blocking(move || telemetry.flush()).await {
        tracing::warn!(error = %e, "telemetry could not be flushed");
    }
}
