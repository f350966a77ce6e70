//! Which of the requests that wait comes first.

use anyhow::Result;
use futures::future::try_join_all;
use hangar_tests::server::{DEADLINE, TestServer};
use tokio::{sync::Mutex, time::timeout};

#[hangar_tests::test]
async fn the_highest_priority_goes_first_and_then_who_came_first() -> Result<()> {
    let server = TestServer::long(|spec| {
        spec.max_concurrency = 1;
        spec.max_queue = Some(10);
    })
    .await?;
    let running = server.greedy("Hello").max_tokens(16_000).stream().await?;
    let order = Mutex::new(Vec::new());
    let ask = async |number: usize, priority| {
        let request = server.greedy("Hi").max_tokens(200).priority(priority);
        request.text().await?;
        order.lock().await.push(number);
        anyhow::Ok(())
    };
    let mut asked = Vec::new();
    for (number, priority) in [0, 5, -3, 5, 0, i32::MAX, i32::MIN].into_iter().enumerate() {
        let mut one = Box::pin(ask(number, priority));
        let waiting = u32::try_from(number + 1)?;
        tokio::select! {
            ended = &mut one => anyhow::bail!("{number} did not wait: {ended:?}"),
            arrived = server.until_occupancy(1, waiting) => arrived?,
        }
        asked.push(one);
    }
    drop(running);
    timeout(DEADLINE, try_join_all(asked)).await??;
    assert_eq!(*order.lock().await, [5, 1, 3, 0, 4, 2, 6]);
    Ok(())
}
