//! A worker that was built for CPUs, started by hand and asked for a GPU.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use hangar_tests::{fixtures::Fixtures, server::binary};
use hangar_worker_protocol::{
    PROTOCOL_VERSION, frame,
    v1::{WorkerConfig, WorkerFailure, WorkerReady, worker_config::Source, worker_ready::Outcome},
};
use prost::Message;

/// What the worker says before it ends, about a model that it is to host on this device.
fn failure(device: &str, path: &Path) -> Result<WorkerFailure> {
    let directory = tempfile::tempdir()?;
    let config = WorkerConfig {
        protocol_version: PROTOCOL_VERSION,
        model_id: "m".to_owned(),
        socket_path: directory.path().join("s.sock").display().to_string(),
        server_pid: std::process::id(),
        source: Some(Source::Path(path.display().to_string())),
        cache_dir: directory.path().display().to_string(),
        device: device.to_owned(),
        ..WorkerConfig::default()
    };
    let mut worker = Command::new(binary("hangar-worker")?)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // Kept until the end: without it the worker takes its server for gone.
    let mut input = worker.stdin.take().context("no standard input")?;
    frame::write(&mut input, &config)?;
    let mut written = Vec::new();
    let output = worker.stdout.take().context("no standard output")?;
    output.take(1 << 20).read_to_end(&mut written)?;
    assert!(!worker.wait()?.success(), "it ended as if all were well");
    match WorkerReady::decode_length_delimited(written.as_slice())?.outcome {
        Some(Outcome::Failure(failure)) => Ok(failure),
        outcome => anyhow::bail!("it wrote {outcome:?}"),
    }
}

#[hangar_tests::test]
fn a_cpu_worker_refuses_a_gpu_and_says_which_worker_has_one() -> Result<()> {
    let model = Fixtures::new()?.llama()?;
    let failure = failure("cuda:0", &model)?;
    assert_eq!(failure.reason, "DEVICE_UNAVAILABLE");
    for words in [
        "built for the CPU only",
        "hangar-worker-cuda",
        "deploy/cuda/build",
    ] {
        assert!(failure.message.contains(words), "{failure:?}");
    }
    Ok(())
}

#[hangar_tests::test]
fn the_device_is_looked_for_before_any_file() -> Result<()> {
    let failure = failure("cuda:0", Path::new("/nowhere"))?;
    assert_eq!(failure.reason, "DEVICE_UNAVAILABLE");
    Ok(())
}

#[hangar_tests::test]
fn another_device_than_the_one_that_a_worker_sees_is_refused() -> Result<()> {
    let failure = failure("cuda:1", Path::new("/nowhere"))?;
    assert_eq!(failure.reason, "DEVICE_UNAVAILABLE");
    assert!(failure.message.contains("cuda:1"), "{failure:?}");
    Ok(())
}
