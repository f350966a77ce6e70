//! The scripted worker's process: start, handshake, life, end.

use std::{
    future::pending,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use hangar_client::v1::{DataType, ModelFormat, ModelKind, ModelMetadata};
use hangar_worker_protocol::{
    MAX_MESSAGE, frame,
    v1::{
        ModelInspection, ProgressMeasure, WorkerConfig, WorkerFailure, WorkerReady,
        worker_config::Source, worker_ready::Outcome, worker_service_server::WorkerServiceServer,
    },
};
use prost::Message;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::{
    events::{ScriptedEvent, report},
    gate::pass,
    script::{LoadKind, ReadyKind, Script, count_attempt},
    service::Service,
    worker::Worker,
};

/// Runs a worker as its configuration on standard input and its model's script say, to its end.
///
/// # Errors
///
/// When there is no configuration or no script.
pub fn run() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let config: WorkerConfig = frame::read(&mut io::stdin().lock()).context("the configuration")?;
    let parent = getppid()
        .map(Pid::as_raw_nonzero)
        .map(|pid| pid.get().unsigned_abs());
    anyhow::ensure!(parent == Some(config.server_pid), "the server is gone");
    let directory = directory(&config);
    let mut script = match config.source {
        Some(Source::Path(_)) => Script::read(&directory)?,
        _ => Script::default(),
    };
    let attempt = count_attempt(&directory)?;
    if script.die_on_attempts.contains(&attempt) {
        script.load.kind = LoadKind::Die(script.die_with);
    }
    report(&directory, ScriptedEvent::Started);
    watch_input(&script, &directory)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(&config, script, directory))?;
    std::process::exit(0)
}

/// The model's directory; that of a file for a file.
fn directory(config: &WorkerConfig) -> PathBuf {
    let path = match &config.source {
        Some(Source::Path(path)) => Path::new(path),
        _ => Path::new(&config.cache_dir),
    };
    let directory = if path.is_dir() {
        Some(path)
    } else {
        path.parent()
    };
    directory.unwrap_or(path).to_path_buf()
}

/// Ends the process with its standard input, unless the script says otherwise.
fn watch_input(script: &Script, directory: &Path) -> Result<()> {
    let ignore = script.ignore_server_death;
    if ignore {
        set_parent_process_death_signal(None)?;
    }
    let directory = directory.to_path_buf();
    std::thread::Builder::new()
        .name("lifeline".to_owned())
        .spawn(move || {
            let mut input = io::stdin().lock();
            while matches!(input.read(&mut [0; 64]), Ok(1..)) {}
            report(&directory, ScriptedEvent::InputEnded);
            if !ignore {
                std::process::exit(0);
            }
        })?;
    Ok(())
}

async fn serve(config: &WorkerConfig, script: Script, directory: PathBuf) -> Result<()> {
    let mut terminate = match script.ignore_sigterm {
        true => Some(signal(SignalKind::terminate())?),
        false => None,
    };
    let listener = UnixListener::bind(&config.socket_path).context("binding the socket")?;
    let worker = Arc::new(Worker::new(script, directory, metadata(config)));
    let script = &worker.script;
    pass(&worker.directory, script.ready_gate.as_deref()).await?;
    if script.ready_after_ms > 0 {
        tokio::time::sleep(Duration::from_millis(script.ready_after_ms)).await;
    }
    say_ready(config, script).await?;
    let service = WorkerServiceServer::new(Service(Arc::clone(&worker)));
    let served = Server::builder()
        .add_service(service.max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            worker.stopping.cancelled(),
        );
    let ignored = async {
        while let Some(signal) = &mut terminate {
            signal.recv().await;
            report(&worker.directory, ScriptedEvent::Terminate);
        }
        pending::<()>().await;
    };
    tokio::select! {
        served = served => served.context("serving"),
        () = ignored => Ok(()),
    }
}

/// Says what the script wants, and goes on if that is a ready frame.
async fn say_ready(config: &WorkerConfig, script: &Script) -> Result<()> {
    let mut ready = WorkerReady {
        protocol_version: config.protocol_version,
        worker_version: env!("CARGO_PKG_VERSION").to_owned(),
        engine_version: "scripted".to_owned(),
        kernels: "scripted".to_owned(),
        outcome: Some(Outcome::Inspection(inspection(config, script))),
    };
    match &script.ready {
        ReadyKind::Ok => {}
        ReadyKind::WrongVersion => ready.protocol_version += 1,
        ReadyKind::Failure { reason, message } => {
            let failure = WorkerFailure {
                reason: reason.clone(),
                message: message.clone(),
            };
            ready.outcome = Some(Outcome::Failure(failure));
            say(&ready.encode_length_delimited_to_vec())?;
            std::process::exit(0);
        }
        ReadyKind::Die(fault) => fault.strike(),
        ReadyKind::Never => pending().await,
        ReadyKind::Closed => {
            rustix::stdio::dup2_stdout(std::fs::File::open("/dev/null")?)?;
            return pending().await;
        }
        kind => {
            say(&nonsense(kind, &ready))?;
            return pending().await;
        }
    }
    say(&ready.encode_length_delimited_to_vec())
}

fn nonsense(kind: &ReadyKind, ready: &WorkerReady) -> Vec<u8> {
    match kind {
        ReadyKind::Huge => vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x20],
        ReadyKind::Half => {
            let mut bytes = ready.encode_length_delimited_to_vec();
            bytes.truncate(bytes.len() / 2);
            bytes
        }
        _ => b"this is not what a worker says\n".repeat(8),
    }
}

fn say(bytes: &[u8]) -> Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes)?;
    Ok(output.flush()?)
}

fn inspection(config: &WorkerConfig, script: &Script) -> ModelInspection {
    ModelInspection {
        metadata: Some(metadata(config)),
        weight_bytes: script.load.bytes,
        progress_measure: ProgressMeasure::ReadChars.into(),
        need_host_bytes: script.need_host_bytes,
        need_device_bytes: script.need_device_bytes,
        max_concurrency: config.max_concurrency,
        ..ModelInspection::default()
    }
}

fn metadata(config: &WorkerConfig) -> ModelMetadata {
    ModelMetadata {
        architecture: "Scripted".to_owned(),
        model_name: config.model_id.clone(),
        kind: match config.spec().kind() {
            ModelKind::Unspecified => ModelKind::Text.into(),
            kind => kind.into(),
        },
        input_modalities: vec!["text".to_owned()],
        output_modalities: vec!["text".to_owned()],
        parameter_count: 1,
        dtype: DataType::F32.into(),
        context_length: 4096,
        trained_context_length: 4096,
        vocabulary_size: 256,
        format: ModelFormat::Safetensors.into(),
        device: config.device.clone(),
        ..ModelMetadata::default()
    }
}
