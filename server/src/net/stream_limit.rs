//! When the task of an HTTP/2 stream ends at the latest.
//!
//! While a client takes nothing, hyper waits for room in its window and looks at the response no more: what ends the
//! response is not seen. The task can be ended all the same, which resets the stream.

use std::{cell::Cell, future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::{
    task_local,
    time::{Instant, sleep_until},
};

/// When a stream should have ended, and when it is ended.
#[derive(Clone, Copy, Debug)]
struct Limit {
    deadline: Instant,
    end: Instant,
}

task_local! {
    /// Of the stream whose task this is.
    static LIMIT: Cell<Option<Limit>>;
}

/// Has the HTTP/2 stream whose task this is end when `deadline` has passed for the time `linger`, whatever its client does.
/// Elsewhere it does nothing.
pub fn end_stream_after(deadline: Instant, linger: Duration) {
    if let Some(end) = deadline.checked_add(linger) {
        let _ = LIMIT.try_with(|it| it.set(Some(Limit { deadline, end })));
    }
}

/// Whether the HTTP/2 stream whose task this is has a deadline that has passed. Also while the stream is dropped.
pub fn is_stream_overdue() -> bool {
    let limit = LIMIT.try_with(Cell::get).ok().flatten();
    limit.is_some_and(|limit| limit.deadline <= Instant::now())
}

/// Runs `stream`, which may set itself a limit while it is polled.
pub(crate) async fn limited(stream: impl Future<Output = ()>) {
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
    let end = poll_fn(|_| match LIMIT.with(Cell::get) {
        Some(limit) => Poll::Ready(limit.end),
        None => Poll::Pending,
    });
    sleep_until(end.await).await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LINGER: Duration = Duration::from_millis(20);

    #[bounded::test]
    async fn a_stream_ends_at_its_limit_and_another_when_it_likes() {
        let deadline = Instant::now();
        limited(async {
            assert!(!is_stream_overdue());
            end_stream_after(deadline, LINGER);
            assert!(is_stream_overdue());
            pending().await
        })
        .await;
        let end = deadline + LINGER;
        assert!(Instant::now() >= end);
        limited(sleep_until(end + LINGER)).await;
        assert!(Instant::now() >= end + LINGER);
        assert!(!is_stream_overdue());
    }

    #[bounded::test]
    async fn a_stream_is_not_overdue_before_its_deadline() {
        let deadline = Instant::now() + Duration::from_hours(1);
        limited(async {
            end_stream_after(deadline, Duration::ZERO);
            assert!(!is_stream_overdue());
        })
        .await;
    }
}
