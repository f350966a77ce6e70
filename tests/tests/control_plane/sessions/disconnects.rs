//! Clients that go without a word.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState};
use hangar_tests::{
    background::Background,
    processes,
    refusals::refusal,
    scripted::Script,
    server::{DEADLINE, TestServer, binary},
    stubs::{Stubs, load_for},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{interval, timeout},
};
use tonic::Code;

/// Long enough for a client to say in time, on a busy machine too, that it lives.
const TTL: Duration = Duration::from_secs(5);

#[hangar_tests::test]
async fn a_client_that_is_killed_frees_its_models() -> Result<()> {
    let server = TestServer::real().start().await?;
    server.llama("m").await?;
    server.client.unload("m").send().await?;
    let mut watch = server.watch().await?;
    let mut client = Command::new(binary("session-holder")?)
        .args([server.url().as_str(), "m"])
        .arg(TTL.as_millis().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = client.stdout.take().context("an output")?;
    let mut lines = BufReader::new(output).lines();
    let session_id = timeout(DEADLINE, lines.next_line()).await??;
    let session_id = session_id.context("the client ended")?;
    watch.until("m", ModelState::Ready).await?;
    let found = server.stubs.session(&session_id).await?;
    assert_eq!(found.model_ids, ["m"]);
    client.kill().await?;
    watch.until("m", ModelState::Unloaded).await?;
    assert!(processes::children(server.pid())?.is_empty());
    let gone = server.stubs.session(&session_id).await;
    refusal(gone, Code::NotFound, ErrorReason::SessionNotFound);
    assert!(!server.stubs.is_desired("m").await?);
    Ok(())
}

#[hangar_tests::test]
async fn a_model_outlives_a_client_that_is_not_its_last_holder() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("m", &Script::default())?;
    let client = server.connect().await?;
    let stubs = Stubs::new(&client);
    let lost = stubs.create_session(Some(TTL)).await?;
    let kept = server.stubs.create_session(None).await?;
    let id = lost.session_id.clone();
    let alive: Background<Result<()>> = Background::start(async move {
        let mut ticks = interval(TTL / 20);
        loop {
            ticks.tick().await;
            stubs.keep_alive(&id).await?;
        }
    });
    server
        .stubs
        .load(load_for(&lost, "m", spec.clone()))
        .await?;
    server.stubs.load(load_for(&kept, "m", spec)).await?;
    let mut watch = server.watch().await?;
    drop((alive, client));
    let mut ticks = interval(Duration::from_millis(20));
    let lapsed = async {
        while server.stubs.session(&lost.session_id).await.is_ok() {
            ticks.tick().await;
        }
    };
    timeout(DEADLINE, lapsed).await?;
    let info = server.stubs.info("m").await?;
    assert_eq!(info.holders, [kept.holder]);
    assert_eq!(watch.state("m"), ModelState::Ready);
    assert_eq!(server.stubs.close(&kept.session_id).await?, ["m"]);
    watch.until("m", ModelState::Unloaded).await?;
    Ok(())
}
