//! Servers that end before a switch does: it has never happened.

use anyhow::Result;
use hangar_client::v1::{ModelState, SwitchModelRequest, SwitchOutcome, SwitchStrategy};
use hangar_tests::{
    fixtures::Fixtures,
    processes,
    scripted::{Gate, Script},
    server::{TestServer, TestServerBuilder},
    stubs::switch,
};
use rstest::rstest;
use tempfile::TempDir;

use super::{ALIAS, carried_out, last, point, state, target};

/// How a server ends.
#[derive(Clone, Copy, Debug)]
enum ServerEnd {
    Kill,
    Terminate,
}

/// A server whose data outlives it, and the alias, which stands for "old".
struct RestartedServer {
    server: TestServer,
    options: TestServerBuilder,
    _data: TempDir,
}

impl RestartedServer {
    async fn start_first() -> Result<Self> {
        let data = tempfile::tempdir()?;
        let fixtures = Fixtures::new()?;
        let options = TestServer::scripted()
            .fixtures(&fixtures)
            .data_in(data.path());
        let server = options.start().await?;
        let (_, old) = server.script("old", &Script::default())?;
        server.load("old", old).await?;
        let mut watch = server.watch().await?;
        point(&server, &mut watch, "old").await?;
        Ok(Self {
            server,
            options,
            _data: data,
        })
    }

    async fn restart_after(self, end: ServerEnd) -> Result<Self> {
        match end {
            ServerEnd::Kill => drop(self.server.kill()?),
            ServerEnd::Terminate => assert!(self.server.terminate().await?.success()),
        }
        Ok(Self {
            server: self.options.start().await?,
            ..self
        })
    }
}

#[rstest]
#[hangar_tests::test]
async fn a_switch_interrupted_by_the_servers_end_changes_nothing(
    #[values(ServerEnd::Kill, ServerEnd::Terminate)] end: ServerEnd,
    #[values(SwitchStrategy::LoadFirst, SwitchStrategy::UnloadFirst)] strategy: SwitchStrategy,
) -> Result<()> {
    let restarted = RestartedServer::start_first().await?;
    let server = &restarted.server;
    let (path, new) = server.script("new", &Script::gated())?;
    let gate = Gate::new(&path, "load")?;
    let mut watch = server.watch().await?;
    let request = SwitchModelRequest {
        spec: Some(new),
        ..switch(ALIAS, "new", strategy)
    };
    let begun = server.stubs.switch(request.clone()).await?;
    watch.until("new", ModelState::Loading).await?;

    let restarted = restarted.restart_after(end).await?;
    let server = &restarted.server;
    let mut watch = server.watch().await?;
    watch.until("old", ModelState::Ready).await?;
    let ended = last(server).await?;
    assert_eq!(ended.switch_id, begun.switch_id);
    assert_eq!(ended.outcome(), SwitchOutcome::RolledBack);
    assert_eq!(ended.reason, "SHUTTING_DOWN");
    assert!(ended.end_time.is_some());
    assert_eq!(target(server).await?, "old");
    server.answer(ALIAS).await?;
    assert!(server.stubs.is_desired("old").await?);
    assert!(!server.stubs.is_desired("new").await?);
    assert_eq!(state(server, "new").await?, ModelState::Unloaded);
    assert_eq!(processes::children(server.pid())?.len(), 1);

    gate.open()?;
    let ended = carried_out(server, &mut watch, request).await?;
    assert_eq!(ended.outcome(), SwitchOutcome::Succeeded);
    assert_eq!(target(server).await?, "new");
    Ok(())
}

#[rstest]
#[hangar_tests::test]
async fn a_switch_that_has_ended_is_remembered(
    #[values(ServerEnd::Kill, ServerEnd::Terminate)] end: ServerEnd,
) -> Result<()> {
    let restarted = RestartedServer::start_first().await?;
    let server = &restarted.server;
    let (_, new) = server.script("new", &Script::default())?;
    let mut watch = server.watch().await?;
    let request = SwitchModelRequest {
        spec: Some(new),
        ..switch(ALIAS, "new", SwitchStrategy::LoadFirst)
    };
    let ended = carried_out(server, &mut watch, request).await?;
    let restarted = restarted.restart_after(end).await?;
    let server = &restarted.server;
    let mut watch = server.watch().await?;
    watch.until("new", ModelState::Ready).await?;
    assert_eq!(last(server).await?, ended);
    assert_eq!(target(server).await?, "new");
    assert_eq!(server.stubs.info("new").await?.aliases, [ALIAS]);
    assert_eq!(state(server, "old").await?, ModelState::Unloaded);
    assert!(!server.stubs.is_desired("old").await?);
    Ok(())
}
