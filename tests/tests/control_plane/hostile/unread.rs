//! Calls that are not read.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::WatchStatusRequest;
use hangar_tests::{
    raw::{RawCall, RawClient},
    server::{DEADLINE, TestServer},
};
use tokio::{task::yield_now, time::timeout};

#[hangar_tests::test]
async fn a_watch_without_room_for_a_response_ends_at_its_deadline() -> Result<()> {
    let options = TestServer::scripted()
        .argument("--max-watchers")
        .argument("1");
    let server = options.start().await?;
    let caller = RawClient::connect(&server.url()).await?;
    let unread = async {
        let mut deadline = Duration::from_millis(200);
        loop {
            let watch = RawCall::of("/hangar.v1.ModelService/WatchStatus", &[]).within(deadline);
            if caller.begin_without_room(watch).await?.is_reset().await? {
                return anyhow::Ok(());
            }
            // It had not begun by then.
            deadline *= 2;
        }
    };
    timeout(DEADLINE, unread).await.context("never reset")??;
    // Its place is free, or is about to be.
    let mut service = server.client.model_service();
    let next = async {
        while service
            .watch_status(WatchStatusRequest::default())
            .await
            .is_err()
        {
            yield_now().await;
        }
    };
    timeout(DEADLINE, next).await.context("it keeps its place")
}
