//! Watchers that do not read.

use anyhow::Result;
use hangar_client::v1::{WatchStatusRequest, model_service_client::ModelServiceClient};
use hangar_tests::{
    fixtures::Fixtures,
    processes::{eventually, host_bytes, open_files},
    raw::{RawCall, RawClient},
    server::{DEADLINE, TestServer},
};
use tonic::transport::Endpoint;

use super::frequent_changes::{MODELS, fail, fail_many, unusable_at_length};

const WATCHERS: usize = 16;
const LOADS: usize = 2000;
/// What is buffered for a connection (400 KiB), and as much again for everything else.
const BOUND: u64 = WATCHERS as u64 * (800 << 10);

#[hangar_tests::test]
async fn a_watcher_that_does_not_read_costs_bounded_memory() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .argument("--watch-ring")
        .argument("64")
        .env("HANGAR_LOG", "warn");
    let server = options.start().await?;
    let client = server.connect().await?;
    let path = unusable_at_length(&fixtures)?;
    let frequent_changes = async || -> Result<()> {
        for n in 0..LOADS {
            fail(&client, &format!("m{}", n % 4), &path).await?;
        }
        Ok(())
    };
    // The server's memory settles first, without watchers.
    frequent_changes().await?;
    let before = host_bytes(server.pid())?;
    let files = open_files(server.pid())?;
    let mut watches = Vec::new();
    for _ in 0..WATCHERS {
        let channel = Endpoint::from_shared(server.url())?.connect().await?;
        let request = WatchStatusRequest::default();
        let answer = ModelServiceClient::new(channel)
            .watch_status(request)
            .await?;
        watches.push(answer.into_inner());
    }
    frequent_changes().await?;
    let grown = host_bytes(server.pid())?.saturating_sub(before);
    let reported = (LOADS * 3000 * WATCHERS) as u64;
    assert!(reported > 6 * BOUND);
    assert!(grown < BOUND, "{grown} bytes for {WATCHERS} watchers");
    // They can still read what there is.
    for watch in &mut watches {
        assert!(watch.message().await?.is_some());
    }
    // Cut off with much on its way, none of them stays behind.
    drop(watches);
    let is_gone = || open_files(server.pid()).ok().filter(|now| *now <= files);
    eventually("the connections are gone", DEADLINE, is_gone).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_watcher_that_does_not_read_holds_no_whole_snapshot() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .env("HANGAR_LOG", "warn");
    let server = options.start().await?;
    let path = unusable_at_length(&fixtures)?;
    fail_many(&server.client, &path).await?;
    let caller = RawClient::connect(&server.url()).await?;
    let watch = RawCall::of("/hangar.v1.ModelService/WatchStatus", &[]);
    // What the first one needs once for all stays.
    let mut watches = vec![caller.begin_without_room(watch.clone()).await?];
    let before = host_bytes(server.pid())?;
    for _ in 0..WATCHERS {
        watches.push(caller.begin_without_room(watch.clone()).await?);
    }
    let grown = host_bytes(server.pid())?.saturating_sub(before);
    assert!((MODELS * 3000 * WATCHERS) as u64 > 2 * BOUND);
    assert!(grown < BOUND, "{grown} bytes for {WATCHERS} watchers");
    Ok(())
}
