//! The scripted worker's process against the protocol, without a server.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use hangar_client::v1;
use hangar_worker_protocol::{
    PROTOCOL_VERSION, frame,
    v1::{
        GenerateRequest, LoadRequest, ShutdownRequest, WorkerConfig, WorkerReady,
        generate_response, load_response, worker_config::Source,
        worker_service_client::WorkerServiceClient,
    },
};
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::{
    processes,
    server::{DEADLINE, binary},
};

struct Scripted {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    directory: tempfile::TempDir,
}

impl Scripted {
    fn start(directory: tempfile::TempDir, script: &Script) -> Result<Self> {
        script.write(directory.path())?;
        let mut child = Command::new(binary("scripted-worker")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        let config = WorkerConfig {
            protocol_version: PROTOCOL_VERSION,
            model_id: "m".into(),
            socket_path: socket(directory.path()),
            server_pid: std::process::id(),
            source: Some(Source::Path(
                directory.path().to_string_lossy().into_owned(),
            )),
            ..WorkerConfig::default()
        };
        frame::write(&mut input, &config)?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self {
            child,
            input: Some(input),
            output,
            directory,
        })
    }

    fn ready(&mut self) -> Result<WorkerReady> {
        Ok(frame::read(&mut self.output)?)
    }

    async fn client(&self) -> Result<WorkerServiceClient<Channel>> {
        let url = format!("unix://{}", socket(self.directory.path()));
        Ok(WorkerServiceClient::new(
            Endpoint::from_shared(url)?.connect().await?,
        ))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(directory: &Path) -> String {
    directory.join("s.sock").to_string_lossy().into_owned()
}

#[hangar_tests::test]
async fn a_worker_without_faults_loads_answers_and_ends() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let gate = Gate::new(directory.path(), "token")?;
    let script = Script {
        generate: GenerateScript {
            gate: Some("token".into()),
            ..GenerateScript::default()
        },
        ..Script::default()
    };
    let mut worker = Scripted::start(directory, &script)?;
    assert_eq!(worker.ready()?.protocol_version, PROTOCOL_VERSION);
    let mut client = worker.client().await?;
    let load = client.load(LoadRequest {}).await?.into_inner();
    let load: Vec<_> = load.try_collect().await?;
    assert!(matches!(
        load[0].event,
        Some(load_response::Event::EngineBuilt(_))
    ));
    assert!(matches!(
        load[1].event,
        Some(load_response::Event::Warmed(_))
    ));
    gate.step(3)?;
    let request = v1::GenerateRequest {
        max_tokens: 3,
        ..Default::default()
    };
    let request = GenerateRequest {
        request: Some(request),
        queued: None,
        ..GenerateRequest::default()
    };
    let answer: Vec<_> = client
        .generate(request)
        .await?
        .into_inner()
        .try_collect()
        .await?;
    assert_eq!(answer.len(), 4);
    let Some(generate_response::Event::Done(done)) = &answer[3].event else {
        anyhow::bail!("no end: {answer:?}")
    };
    assert_eq!(done.finish_reason(), v1::FinishReason::Length);
    client.shutdown(ShutdownRequest {}).await?;
    processes::ended(worker.child.id(), DEADLINE).await?;
    assert!(worker.child.wait()?.success());
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_ends_with_its_standard_input() -> Result<()> {
    let mut worker = Scripted::start(tempfile::tempdir()?, &Script::default())?;
    worker.ready()?;
    drop(worker.input.take());
    processes::ended(worker.child.id(), DEADLINE).await
}

#[hangar_tests::test]
async fn a_worker_that_ignores_everything_has_to_be_killed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut events = Events::new(directory.path())?;
    let script = Script {
        ignore_sigterm: true,
        ignore_server_death: true,
        shutdown: ShutdownKind::Ignore,
        ..Script::default()
    };
    let mut worker = Scripted::start(directory, &script)?;
    worker.ready()?;
    let mut client = worker.client().await?;
    client.shutdown(ShutdownRequest {}).await?;
    processes::signal(worker.child.id(), rustix::process::Signal::TERM)?;
    events.until(ScriptedEvent::Terminate).await?;
    drop(worker.input.take());
    events.until(ScriptedEvent::InputEnded).await?;
    assert!(processes::is_running(worker.child.id()));
    Ok(())
}

#[hangar_tests::test]
async fn a_fault_strikes_at_its_token() -> Result<()> {
    let generate = GenerateScript {
        die_after: Some(2),
        ..GenerateScript::default()
    };
    let script = Script {
        generate,
        ..Script::default()
    };
    let mut worker = Scripted::start(tempfile::tempdir()?, &script)?;
    worker.ready()?;
    let mut client = worker.client().await?;
    let request = GenerateRequest::default();
    let mut answer = client.generate(request).await?.into_inner();
    let mut chunks = 0;
    while let Ok(Some(_)) = answer.message().await {
        chunks += 1;
    }
    assert_eq!(chunks, 2);
    processes::ended(worker.child.id(), DEADLINE).await
}

#[hangar_tests::test]
fn garbage_comes_in_place_of_a_frame() -> Result<()> {
    let script = Script {
        ready: ReadyKind::Garbage,
        ..Script::default()
    };
    let mut worker = Scripted::start(tempfile::tempdir()?, &script)?;
    let mut line = String::new();
    worker.output.read_line(&mut line)?;
    assert!(line.starts_with("this is not"), "{line}");
    Ok(())
}

#[hangar_tests::test]
fn a_closed_output_ends() -> Result<()> {
    let script = Script {
        ready: ReadyKind::Closed,
        ..Script::default()
    };
    let mut worker = Scripted::start(tempfile::tempdir()?, &script)?;
    assert_eq!(worker.output.read(&mut [0; 8])?, 0);
    assert!(processes::is_running(worker.child.id()));
    Ok(())
}

#[hangar_tests::test]
async fn an_attempt_dies_when_the_script_says_so() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let script = Script {
        die_on_attempts: vec![1],
        ..Script::default()
    };
    let mut worker = Scripted::start(directory, &script)?;
    worker.ready()?;
    let mut load = worker
        .client()
        .await?
        .load(LoadRequest {})
        .await?
        .into_inner();
    assert!(load.message().await.is_err());
    processes::ended(worker.child.id(), DEADLINE).await
}
