//! Downloads where nothing goes wrong.

use anyhow::{Context, Result};
use hangar_client::{
    WatchEvent,
    v1::{
        ErrorReason, LoadPhase,
        ModelState::{Downloading, Loading, Pending, Ready, Starting, Warming},
    },
};
use hangar_tests::{
    background::Background,
    hub::{Fault, hub_spec},
    refusals::refusal,
    server::{DEADLINE, TestServer, spec},
};
use tokio::time::timeout;
use tonic::Code;

use super::{HubServer, REPOSITORY, WEIGHTS, parts, says};

#[hangar_tests::test]
async fn a_model_of_the_hub_answers_as_the_same_from_disk() -> Result<()> {
    let server = HubServer::new().await?;
    server
        .hub
        .add_file(REPOSITORY, "README.md", b"read me".to_vec());
    let commit = server
        .hub
        .add_file(REPOSITORY, "pytorch_model.bin", vec![0; 9]);
    let mut transitions = server.follow("m").await?;
    server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 1))
        .wait()
        .await?;
    assert_eq!(
        transitions.states_to(Ready).await?,
        [Pending, Downloading, Starting, Loading, Warming, Ready]
    );
    let disk = server.fixtures.llama()?;
    server.client.load("disk").spec(spec(&disk)).wait().await?;
    assert_eq!(
        says(&server.client, "m").await?,
        says(&server.client, "disk").await?
    );
    let metadata = server.model().await?.metadata.context("metadata")?;
    assert_eq!(metadata.resolved_revision, commit);
    assert_eq!(metadata.model_name, REPOSITORY);
    assert!(parts(&server.cache()).is_empty());
    let unneeded = ["README.md", "pytorch_model.bin"];
    assert!(
        unneeded
            .iter()
            .all(|file| server.hub.requests_for(file).is_empty())
    );
    assert_eq!(server.hub.requests_for(WEIGHTS).len(), 1);
    Ok(())
}

#[hangar_tests::test]
async fn a_gguf_file_is_downloaded_alone_when_it_is_named() -> Result<()> {
    let server = HubServer::new().await?;
    let gguf = std::fs::read(server.fixtures.qwen3_gguf()?)?;
    server.hub.add_file(REPOSITORY, "q/m.gguf", gguf);
    let spec = hub_spec(REPOSITORY, &["q/m.gguf"], 1);
    server.client.load("m").spec(spec).wait().await?;
    assert!(!says(&server.client, "m").await?.is_empty());
    assert!(server.hub.requests_for(WEIGHTS).is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_hub_that_lists_names_only_is_asked_for_each_size() -> Result<()> {
    let server = HubServer::new().await?;
    server.hub.lists_without_sizes();
    server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 1))
        .wait()
        .await?;
    let heads = server.hub.requests().into_iter();
    assert!(heads.filter(|r| r.line.starts_with("HEAD")).count() > 1);
    assert!(!says(&server.client, "m").await?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn bytes_are_seen_to_rise_while_they_come() -> Result<()> {
    let server = HubServer::new().await?;
    let size = server.weights()?;
    let holds: Vec<_> = (1..=4).map(|n| size * n / 5).collect();
    server.hub.fault(WEIGHTS, Fault::Hold(holds.clone()));
    let mut watch = server.client.watch().model("m").stream();
    server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 1))
        .send()
        .await?;
    let mut seen = vec![];
    let mut last = (0, 0.0);
    loop {
        let event = timeout(DEADLINE, watch.next())
            .await?
            .context("an event")??;
        let (WatchEvent::Transition { status, .. } | WatchEvent::Progress { status, .. }) = event
        else {
            continue;
        };
        if status.state() == Ready {
            break;
        }
        let progress = status.progress.context("progress")?;
        assert!(progress.fraction >= last.1, "{last:?}, then {progress:?}");
        last.1 = progress.fraction;
        if status.state() != Downloading {
            continue;
        }
        assert_eq!(progress.phase(), LoadPhase::Downloading);
        assert!(progress.bytes_done >= last.0 && progress.bytes_done <= progress.bytes_total);
        last.0 = progress.bytes_done;
        // The other files are small, and come at their own pace.
        let others = progress.bytes_total.saturating_sub(size);
        let at = holds.get(seen.len()).copied().unwrap_or(u64::MAX);
        if progress.bytes_total > 0 && progress.bytes_done == at.saturating_add(others) {
            seen.push(progress.bytes_done);
            server.hub.release();
        }
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    Ok(())
}

#[hangar_tests::test]
async fn loads_of_one_repository_download_it_once() -> Result<()> {
    let server = HubServer::new().await?;
    let middle = server.weights()? / 2;
    server.hub.fault(WEIGHTS, Fault::Hold(vec![middle]));
    let mut transitions = server.follow("b").await?;
    let spec = hub_spec(REPOSITORY, &[], 1);
    let load = |id: &str| Background::start(server.client.load(id).spec(spec.clone()).wait());
    let loads = [load("a"), load("b")];
    transitions.until(Downloading).await?;
    server.hub.release();
    for load in loads {
        load.end().await??;
    }
    assert_eq!(server.hub.requests_for(WEIGHTS).len(), 1);
    assert_eq!(
        says(&server.client, "a").await?,
        says(&server.client, "b").await?
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_repository_that_is_not_listed_is_not_allowed_and_not_asked_for() -> Result<()> {
    let server = HubServer::with(|options| options.argument("--hub-repositories=other/*")).await?;
    let HubServer { server, hub, .. } = server;
    let options = TestServer::real().fixtures(&server.fixtures);
    drop(server);
    let url = hub.url();
    let none = options.clone().argument("--hub-endpoint").argument(&url);
    let others = none
        .clone()
        .argument("--hub-repositories=other/*,tiny/lama");
    for options in [none, others] {
        let hangar = options.start().await?;
        let client = hangar.connect().await?;
        let load = client
            .load("m")
            .spec(hub_spec(REPOSITORY, &[], 1))
            .send()
            .await;
        let refused = refusal(load, Code::PermissionDenied, ErrorReason::SourceNotAllowed);
        let reported = refused.message();
        assert!(
            reported.contains(REPOSITORY) && reported.contains("--hub-repositories"),
            "{reported}"
        );
        let unknown = client.info().model("m").send().await;
        refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    }
    assert!(hub.requests().is_empty());
    Ok(())
}
