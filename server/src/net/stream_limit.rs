//! When the task of an HTTP/2 stream ends at the latest.
//!
//! While a client takes nothing, hyper waits for room in its window and looks at the response no more: what ends the
//! response is not seen. The task can be ended all the same, which resets the stream.

use std::{cell::Cell, future::poll_fn, pin::pin, task::Poll};

use tokio::{
    task_local,
    time::{Instant, sleep_until},
};

task_local! {
    /// Of the stream whose task this is.
    static LIMIT: Cell<Option<Instant>>;
}

/// Has the HTTP/2 stream whose task this is end at `limit`, whatever its client does. Elsewhere it does nothing.
pub fn end_stream_at(limit: Instant) {
    let _ = LIMIT.try_with(|it| it.set(Some(limit)));
}

/// Runs `stream`, which may set itself a limit while it is polled.
pub(super) async fn limited(stream: impl Future<Output = ()>) {
    let limited = async {
        let mut stream = pin!(stream);
        tokio::select! {
            biased;
            () = &mut stream => {}
            () = passed() => {}
        }
    };
    LIMIT.scope(Cell::new(None), limited).await;
}

/// Ends once the limit has passed. It is polled whenever the stream was, which alone sets the limit: nothing has to wake it
/// for that.
async fn passed() {
    let limit = poll_fn(|_| match LIMIT.with(Cell::get) {
        Some(limit) => Poll::Ready(limit),
        None => Poll::Pending,
    });
    sleep_until(limit.await).await;
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::*;

    #[tokio::test]
    async fn a_stream_ends_at_its_limit_and_another_when_it_likes() {
        let limit = Instant::now() + Duration::from_millis(20);
        limited(async {
            end_stream_at(limit);
            pending().await
        })
        .await;
        assert!(Instant::now() >= limit);
        limited(sleep_until(limit + Duration::from_millis(20))).await;
        assert!(Instant::now() >= limit + Duration::from_millis(20));
    }
}
