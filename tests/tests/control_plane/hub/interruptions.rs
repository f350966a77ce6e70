//! Downloads that are interrupted go on from where they were.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason,
    ModelState::{Backoff, Downloading, Failed, Ready, Unloaded},
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    hub::{Fault, hub_spec},
    refusals::refusal,
    server::TestServer,
    time_enough::with_time_enough,
};
use tonic::Code;

use super::{HubServer, REPOSITORY, WEIGHTS, impatient, parts, says, until_part};

#[hangar_tests::test]
async fn a_connection_that_breaks_off_is_taken_up_at_the_same_byte() -> Result<()> {
    let server = HubServer::new().await?;
    let size = server.weights()?;
    server.hub.fault(WEIGHTS, Fault::Break(size / 3));
    server.hub.fault(WEIGHTS, Fault::Break(size / 3));
    server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 1))
        .wait()
        .await?;
    let requests = server.hub.requests_for(WEIGHTS);
    // What was handed to a connection that breaks may be lost on the way.
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(
        requests[1].from > 0 && requests[1].from <= size / 3,
        "{requests:?}"
    );
    assert!(requests[2].from > requests[1].from, "{requests:?}");
    assert_eq!(requests[2].from + requests[2].served, size);
    assert!(!says(&server.client, "m").await?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_connection_that_brings_nothing_is_not_taken_up_for_ever() -> Result<()> {
    let server = HubServer::new().await?;
    server.hub.fault(WEIGHTS, Fault::Break(0));
    let load = server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 1))
        .wait()
        .await;
    refusal(load, Code::Unavailable, ErrorReason::HubUnavailable);
    assert_eq!(server.hub.requests_for(WEIGHTS).len(), 1);
    Ok(())
}

#[hangar_tests::test]
async fn a_hub_that_stalls_fails_the_attempt_and_the_next_goes_on() -> Result<()> {
    let server = HubServer::with(impatient).await?;
    let half = server.weights()? / 2;
    server.hub.fault(WEIGHTS, Fault::Stall(half));
    let mut transitions = server.follow("m").await?;
    server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 2))
        .send()
        .await?;
    transitions.until(Downloading).await?;
    let failed = transitions.next().await?;
    assert_eq!(
        (failed.state(), failed.reason.as_str()),
        (Backoff, "HUB_UNAVAILABLE")
    );
    assert!(
        failed.message.contains("nothing for 3.0 s"),
        "{}",
        failed.message
    );
    assert_eq!(transitions.until(Ready).await?.attempt, 2);
    let requests = server.hub.requests_for(WEIGHTS);
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!(
        (requests[1].from, requests[1].from + requests[1].served),
        (half, half * 2 + server.weights()? % 2)
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_server_that_is_killed_goes_on_when_it_is_started_again() -> Result<()> {
    let data = tempfile::tempdir()?;
    let server = HubServer::with(|options| options.data_in(data.path())).await?;
    let size = server.weights()?;
    server.hub.fault(WEIGHTS, Fault::Hold(vec![size / 2]));
    let spec = hub_spec(REPOSITORY, &[], 1);
    server.client.load("m").spec(spec.clone()).send().await?;
    until_part(&server.cache(), size / 2).await?;
    let HubServer { server, hub, .. } = server;
    let options = TestServer::real()
        .fixtures(&server.fixtures)
        .hub(&hub)
        .data_in(data.path());
    server.kill()?;
    let hangar = options.start().await?;
    let client = hangar.connect().await?;
    client.load("m").spec(spec).wait().await?;
    let requests = hub.requests_for(WEIGHTS);
    assert_eq!(
        (requests.len(), requests[1].from),
        (2, size / 2),
        "{requests:?}"
    );
    assert_eq!(requests[1].served, size - size / 2);
    assert!(parts(&data.path().join("hub")).is_empty());
    assert!(!says(&client, "m").await?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_ends_a_download_and_keeps_what_has_come() -> Result<()> {
    let server = HubServer::new().await?;
    let half = server.weights()? / 2;
    server.hub.fault(WEIGHTS, Fault::Hold(vec![half]));
    let mut transitions = server.follow("m").await?;
    let load = server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 3))
        .wait();
    let load = Background::start(load);
    transitions.until(Downloading).await?;
    until_part(&server.cache(), half).await?;
    server.client.unload("m").send().await?;
    assert_eq!(transitions.next().await?.state(), Unloaded);
    refusal(load.end().await?, Code::Aborted, ErrorReason::LoadCancelled);
    assert_eq!(parts(&server.cache()), [half]);
    server.client.load("m").wait().await?;
    assert_eq!(server.hub.requests_for(WEIGHTS)[1].from, half);
    Ok(())
}

#[hangar_tests::test]
async fn the_time_of_a_load_covers_its_download() -> Result<()> {
    let server = HubServer::new().await?;
    with_time_enough(Duration::from_millis(500), async |limit| {
        server.hub.fault(WEIGHTS, Fault::Hold(vec![1]));
        // It is not known any more what became of the last one.
        let _ = server.client.unload("m").send().await;
        let mut transitions = server.follow("m").await?;
        let load = server.client.load("m").spec(hub_spec(REPOSITORY, &[], 3));
        let load = load.timeout(limit).wait().await;
        let refused = refusal(load, Code::DeadlineExceeded, ErrorReason::LoadTimeout);
        let states = transitions.states_to(Failed).await?;
        if !refused.message().contains("DOWNLOADING") {
            return Ok(None);
        }
        assert_eq!(states.len(), 3, "{states:?}");
        Ok(Some(()))
    })
    .await
}

#[hangar_tests::test]
async fn a_shutdown_does_not_wait_for_a_download() -> Result<()> {
    let server = HubServer::new().await?;
    server.hub.fault(WEIGHTS, Fault::Hold(vec![1]));
    server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 3))
        .send()
        .await?;
    until_part(&server.cache(), 1).await?;
    assert_eq!(server.server.terminate().await?.code(), Some(0));
    Ok(())
}

#[hangar_tests::test]
async fn a_download_whose_task_panics_fails_its_load_and_the_next_goes_on() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = HubServer::with(|options| options.failpoints(&failpoints)).await?;
    let half = server.weights()? / 2;
    server.hub.fault(WEIGHTS, Fault::Stall(half));
    let mut transitions = server.follow("m").await?;
    let load = server.client.load("m").spec(hub_spec(REPOSITORY, &[], 2));
    let load = Background::start(load.wait());
    transitions.until(Downloading).await?;
    until_part(&server.cache(), half).await?;
    failpoints.panic("download.m")?;
    assert_eq!(transitions.until(Failed).await?.reason, "INTERNAL");
    refusal(load.end().await?, Code::Internal, ErrorReason::Internal);
    server.client.load("m").wait().await?;
    let requests = server.hub.requests_for(WEIGHTS);
    let last = requests.last().context("no request")?;
    assert_eq!(last.from, half, "{requests:?}");
    Ok(())
}
