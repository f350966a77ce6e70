//! How a server ends, and what it leaves behind.

use std::{ffi::OsString, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use hangar_client::{
    Client, GenerateEvent, Watch, WatchEvent,
    v1::{ErrorReason, ModelInfo, ModelState},
};
use hangar_tests::{
    background::Background,
    fixtures::Fixtures,
    http, processes,
    refusals::refusal,
    scripted::{Gate, GenerateScript, LoadScript, Script, ShutdownKind},
    server::{DEADLINE, NEVER, TestServer, binary, spec},
};
use rustix::process::Signal;
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
    time::timeout,
};
use tonic::Code;

/// A model that makes a token for each step of the gate `token`.
fn gated() -> Script {
    Script {
        generate: GenerateScript {
            gate: Some("token".into()),
            ..GenerateScript::default()
        },
        ..Script::default()
    }
}

/// Waits until the server has begun to shut down: its watches end then.
async fn shutting_down(mut watch: Watch) -> Result<()> {
    let end = async {
        loop {
            match watch.next().await.context("the watch ended")?? {
                WatchEvent::Disconnected { error, .. } => return anyhow::Ok(error),
                _ => continue,
            }
        }
    };
    let end = timeout(DEADLINE, end).await??;
    refusal(
        Err::<(), _>(end),
        Code::Unavailable,
        ErrorReason::ShuttingDown,
    );
    Ok(())
}

/// A watch that has begun.
async fn watching(client: &Client) -> Result<Watch> {
    let mut watch = client.watch().stream();
    watch.next().await.context("no snapshot")??;
    Ok(watch)
}

/// What a server that does not start says.
async fn refused(arguments: &[OsString]) -> Result<String> {
    let output = Command::new(binary("hangar")?)
        .arg("serve")
        .arg("--worker")
        .arg(binary("scripted-worker")?)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(DEADLINE, output).await??;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "it announced itself");
    Ok(String::from_utf8(output.stderr)?)
}

fn arguments(listen: &str, ops_listen: &str, data: &Path) -> Vec<OsString> {
    let pairs = [
        ("--listen", listen.into()),
        ("--ops-listen", ops_listen.into()),
    ];
    let pairs = pairs.into_iter().chain([("--data-dir", data.into())]);
    pairs
        .flat_map(|(flag, value): (&str, OsString)| [flag.into(), value])
        .collect()
}

/// Sockets in the runtime directory.
fn sockets(data: &Path) -> Result<Vec<OsString>> {
    let entries = std::fs::read_dir(data.join("run"))?;
    let names = entries.map(|entry| Ok(entry?.file_name()));
    Ok(names.collect::<std::io::Result<_>>()?)
}

/// Begins to load a model that does not come further than LOADING as long as the gate is there, and gives its worker.
async fn loading(server: &TestServer) -> Result<(Gate, u32)> {
    let load = LoadScript {
        gate: Some("load".into()),
        ..LoadScript::default()
    };
    let script = Script {
        load,
        ..Script::default()
    };
    let (path, spec) = server.script("loading", &script)?;
    let gate = Gate::new(&path, "load")?;
    let mut transitions = server.follow("loading").await?;
    server.client.load("loading").spec(spec).send().await?;
    let worker = transitions.until(ModelState::Loading).await?.worker_pid;
    Ok((gate, worker))
}

#[hangar_tests::test]
async fn running_answers_may_end_and_no_process_is_left() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let server = TestServer::scripted()
        .script(&gated())
        .data_in(&data)
        .start()
        .await?;
    let token = server.gate("token")?;
    let worker = server.ready().await?.worker_pid;
    let (_load, loader) = loading(&server).await?;
    let watch = watching(&server.client).await?;
    let answer = server.client.generate("m").prompt("x").max_tokens(3);
    let mut answer = answer.stream().await?;
    token.step(1)?;
    answer.next().await.context("no token")??;

    server.signal(Signal::TERM)?;
    shutting_down(watch).await?;
    assert_eq!(http::get(server.ops_listen(), "/readyz").await?.status, 503);
    let late = server.client.load("loading").send().await;
    let late = late.err().context("it still loads")?;
    assert_eq!(late.code(), Code::Unavailable);
    token.open()?;
    let mut end = None;
    while let Some(event) = answer.next().await.transpose()? {
        end = Some(event);
    }
    let Some(GenerateEvent::Done(done)) = end else {
        anyhow::bail!("the answer ended with {end:?}")
    };
    assert_eq!(done.usage.map(|usage| usage.completion_tokens), Some(3));
    assert!(server.ended(DEADLINE).await?.success());
    assert!(sockets(&data)?.is_empty());
    for pid in [worker, loader] {
        assert!(!processes::exists(pid), "{pid} is there");
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_answer_that_does_not_end_is_cut_off() -> Result<()> {
    let server = TestServer::scripted()
        .script(&gated())
        // What these leave is for requests: 300 ms.
        .time("--kill-timeout", Duration::from_secs(1))
        .time("--shutdown-timeout", Duration::from_millis(7400))
        .time("--device-release-timeout", Duration::from_millis(100))
        .start()
        .await?;
    let token = server.gate("token")?;
    let worker = server.ready().await?.worker_pid;
    let mut answer = server.client.generate("m").prompt("x").stream().await?;
    token.step(1)?;
    answer.next().await.context("no token")??;
    server.signal(Signal::TERM)?;
    let end = timeout(DEADLINE, answer.next())
        .await?
        .context("no error")?;
    let cut = refusal(end, Code::Unavailable, ErrorReason::ShuttingDown);
    assert!(cut.details().retry_after.is_some(), "{cut}");
    assert!(server.ended(DEADLINE).await?.success());
    assert!(!processes::exists(worker));
    Ok(())
}

#[hangar_tests::test]
async fn a_worker_that_ignores_its_stop_is_killed() -> Result<()> {
    let script = Script {
        ignore_sigterm: true,
        shutdown: ShutdownKind::Hang,
        ..Script::default()
    };
    let server = TestServer::scripted()
        .script(&script)
        .time("--kill-timeout", Duration::from_millis(300))
        .start()
        .await?;
    let worker = server.ready().await?.worker_pid;
    server.signal(Signal::TERM)?;
    assert!(server.ended(DEADLINE).await?.success());
    assert!(!processes::exists(worker));
    Ok(())
}

#[hangar_tests::test]
async fn connections_that_say_nothing_do_not_hold_the_server_up() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let silent = TcpStream::connect(server.listen()).await?;
    let silent_ops = TcpStream::connect(server.ops_listen()).await?;
    let idle = server.connect().await?;
    idle.info().send().await?;
    server.signal(Signal::INT)?;
    assert!(server.ended(DEADLINE).await?.success());
    drop((silent, silent_ops, idle));
    Ok(())
}

#[hangar_tests::test]
async fn a_caller_that_does_not_read_does_not_hold_the_server_up() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let load = client.load("m").spec(spec(&fixtures.long_llama()?));
    load.wait().await?;
    // More than what the transport takes from a server whose client does not read.
    let request = client.generate("m").prompt("x").max_tokens(6_000);
    let mut answer = request.stream().await?;
    answer.next().await.context("no answer")??;
    server.signal(Signal::TERM)?;
    let ended = server.ended(DEADLINE).await?;
    assert!(ended.success());
    drop(answer);
    Ok(())
}

#[hangar_tests::test]
async fn a_second_signal_ends_the_server_at_once() -> Result<()> {
    // A collector that never answers, which must not hold the server up either.
    let collector = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", collector.local_addr()?);
    let server = TestServer::scripted()
        .script(&gated())
        .with(|options| {
            let options = options.argument("--otlp-endpoint").argument(endpoint);
            // Nothing but the second signal ends it.
            options
                .time("--drain-timeout", NEVER)
                .time("--shutdown-timeout", NEVER * 2)
        })
        .start()
        .await?;
    let _token = server.gate("token")?;
    let worker = server.ready().await?.worker_pid;
    let watch = watching(&server.client).await?;
    let client = server.client.clone();
    let answer = Background::start(async move { client.generate("m").prompt("x").text().await });
    let is_running = |info: &ModelInfo| info.status.as_ref().is_some_and(|s| s.in_flight == 1);
    server.info_when(is_running).await?;
    server.signal(Signal::TERM)?;
    shutting_down(watch).await?;
    server.signal(Signal::TERM)?;
    assert_eq!(server.ended(DEADLINE).await?.code(), Some(1));
    processes::ended(worker, DEADLINE).await?;
    assert_eq!(
        answer.end().await?.err().context("it ended well")?.code(),
        Code::Unavailable
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_collector_that_never_answers_does_not_hold_the_server_up() -> Result<()> {
    let collector = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", collector.local_addr()?);
    let server = TestServer::scripted()
        .script(&Script::default())
        .argument("--otlp-endpoint")
        .argument(endpoint)
        .start()
        .await?;
    server.ready().await?;
    server.signal(Signal::TERM)?;
    assert!(server.ended(DEADLINE).await?.success());
    Ok(())
}

#[hangar_tests::test]
async fn a_second_server_on_the_same_data_is_refused() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let any = "127.0.0.1:0";
    let output = refused(&arguments(any, any, server.data_dir())).await?;
    let data = server.data_dir().display().to_string();
    for words in [data.as_str(), "in use by another hangar", "--data-dir"] {
        assert!(output.contains(words), "{words:?} is not in {output:?}");
    }
    // The first one is none the worse for it.
    server.ready().await?;
    assert!(server.terminate().await?.success());
    Ok(())
}

#[hangar_tests::test]
async fn a_second_server_on_the_same_sockets_is_refused() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    server.ready().await?;
    let held = sockets(server.data_dir())?;
    assert_eq!(held.len(), 1);
    let run = server.data_dir().join("run");
    let directory = tempfile::tempdir()?;
    let any = "127.0.0.1:0";
    let mut arguments = arguments(any, any, &directory.path().join("data"));
    arguments.extend(["--runtime-dir".into(), run.clone().into_os_string()]);
    let output = refused(&arguments).await?;
    let run = run.display().to_string();
    for words in [run.as_str(), "in use by another hangar", "--runtime-dir"] {
        assert!(output.contains(words), "{words:?} is not in {output:?}");
    }
    // The first one is none the worse for it.
    assert_eq!(sockets(server.data_dir())?, held);
    Ok(())
}

#[hangar_tests::test]
async fn a_port_that_is_taken_is_named() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let taken = listener.local_addr()?.to_string();
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let any = "127.0.0.1:0";
    for (listen, ops_listen) in [(taken.as_str(), any), (any, taken.as_str())] {
        let output = refused(&arguments(listen, ops_listen, &data)).await?;
        for words in [taken.as_str(), "cannot listen", "another address"] {
            assert!(output.contains(words), "{words:?} is not in {output:?}");
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn sockets_of_a_killed_server_are_removed() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let model = fixtures.scripted("m", &Script::default())?;
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let options = TestServer::scripted().fixtures(&fixtures).data_in(&data);
    let server = options.start().await?;
    let load = server
        .connect()
        .await?
        .load("m")
        .spec(spec(&model))
        .wait()
        .await?;
    let worker = load.status.context("no status")?.worker_pid;
    server.kill()?;
    processes::ended(worker, DEADLINE).await?;
    assert_eq!(
        sockets(&data)?.len(),
        1,
        "the killed server left none behind"
    );

    let server = options.start().await?;
    assert!(sockets(&data)?.is_empty());
    let client = server.connect().await?;
    client.load("m").spec(spec(&model)).wait().await?;
    assert_eq!(sockets(&data)?.len(), 1);
    client.unload("m").send().await?;
    assert!(sockets(&data)?.is_empty());
    assert!(server.terminate().await?.success());
    Ok(())
}

#[hangar_tests::test]
async fn no_worker_outlives_a_killed_server() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    client
        .load("idle")
        .spec(spec(&fixtures.qwen3()?))
        .wait()
        .await?;
    client
        .load("busy")
        .spec(spec(&fixtures.long_llama()?))
        .wait()
        .await?;
    let mut answer = client
        .generate("busy")
        .prompt("x")
        .max_tokens(16_000)
        .stream()
        .await?;
    answer.next().await.context("no token")??;
    let workers = processes::children(server.pid())?;
    assert_eq!(workers.len(), 2);
    server.kill()?;
    for worker in workers {
        processes::ended(worker, DEADLINE).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn no_worker_outlives_a_server_that_is_killed_in_a_load() -> Result<()> {
    for state in [
        ModelState::Starting,
        ModelState::Loading,
        ModelState::Warming,
    ] {
        let server = TestServer::scripted()
            .script(&Script::gated())
            .start()
            .await?;
        let held = server.hold(state).await?;
        server.kill()?;
        processes::ended(held.pid, DEADLINE)
            .await
            .with_context(|| format!("{state:?}"))?;
    }
    Ok(())
}
