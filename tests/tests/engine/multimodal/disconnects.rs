//! Callers that vanish, and models that are unloaded meanwhile.

use anyhow::{Context, Result};
use futures::future::{join_all, try_join_all};
use hangar_client::v1::ModelState;
use hangar_tests::{
    processes,
    server::{DEADLINE, TestServer},
};
use tokio::time::timeout;

use super::{VisionServer, picture, text};

#[hangar_tests::test]
async fn callers_that_vanish_leave_nothing_behind() -> Result<()> {
    let server = TestServer::gemma().await?;
    let worker = server.worker().await?;
    let ask = || anyhow::Ok(server.asking().parts("user", [picture(1)?, text("What?")]));
    let before = ask()?.text().await?.text;
    for _ in 0..10 {
        let streams = (0..4).map(|_| anyhow::Ok(ask()?.max_tokens(150).stream()));
        let streams = try_join_all(streams.collect::<Result<Vec<_>>>()?).await?;
        drop(streams);
    }
    // Half of them are given up before the server has said anything.
    let asked = (0..8).map(|_| anyhow::Ok(ask()?.stream()));
    for asked in asked.collect::<Result<Vec<_>>>()? {
        let mut asked = Box::pin(asked);
        let _ = futures::poll!(&mut asked);
    }
    assert_eq!(ask()?.text().await?.text, before);
    assert_eq!(server.worker().await?, worker);
    Ok(())
}

#[hangar_tests::test]
async fn what_others_ask_changes_no_answer() -> Result<()> {
    let server = TestServer::gemma().await?;
    let ask = |seed| {
        let parts = [picture(seed)?, text("What?")];
        anyhow::Ok(server.asking().parts("user", parts).text())
    };
    let mut alone = Vec::new();
    for seed in 1..=4 {
        alone.push(ask(seed)?.await?.text);
    }
    let together = (1..=4)
        .cycle()
        .take(16)
        .map(ask)
        .collect::<Result<Vec<_>>>()?;
    let together = join_all(together).await;
    for (n, answer) in together.into_iter().enumerate() {
        assert_eq!(answer?.text, alone[n % 4]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_gives_everything_back() -> Result<()> {
    let server = TestServer::gemma().await?;
    let worker = server.worker().await?;
    server.answer_to([picture(1)?, text("What?")]).await?;
    let before = server.answer_to([picture(2)?]).await?.text;
    let mut transitions = server.follow("m").await?;
    let unloaded = server.client.unload("m").send().await?;
    assert!(unloaded.was_loaded && unloaded.host_bytes_freed > 0);
    assert!(!processes::exists(worker));
    let seen = timeout(DEADLINE, transitions.until(ModelState::Unloaded));
    seen.await.context("no end")??;
    server.client.load("m").wait().await?;
    assert_eq!(server.answer_to([picture(2)?]).await?.text, before);
    Ok(())
}
