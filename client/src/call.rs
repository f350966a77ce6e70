//! Unary calls: deadline, retries and the span around both.
//!
//! Invariant: a call is repeated only where that is safe for the server, and never past its deadline.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::{error::Error, trace};

/// How calls that are safe to repeat are repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) times: usize,
    /// Wait before the second try; doubles with each further one.
    pub(crate) delay: Duration,
}

/// The longest deadline that the server is told of: no clock has room for the longest there are, and no header.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What holds for all calls of a client.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Address of the server.
    pub(crate) server: String,
    /// For calls that the server answers at once.
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
}

/// How a unary call is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnaryCall {
    /// "package.Service/Method".
    pub(crate) method: &'static str,
    /// Time for the call, retries included. `None`: as long as it takes.
    pub(crate) deadline: Option<Duration>,
}

impl Retry {
    fn backoff(self) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(self.delay)
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(self.times)
            .with_jitter()
    }
}

impl UnaryCall {
    /// Makes the call with `send`, again after a failure that another try may cure.
    ///
    /// # Errors
    ///
    /// The last try's, or [`Error::Deadline`].
    pub(crate) async fn send<T, R, F, Fut>(
        self,
        settings: &Settings,
        message: T,
        send: F,
    ) -> Result<R, Error>
    where
        T: Clone,
        F: Fn(Request<T>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let span = trace::client_span(self.method);
        let end = self
            .deadline
            .map(|deadline| Instant::now() + deadline.min(LONGEST));
        let result = self
            .attempts(settings, end, message, send)
            .instrument(span.clone())
            .await;
        trace::record(&span, result.as_ref().err());
        result
    }

    async fn attempts<T, R, F, Fut>(
        self,
        settings: &Settings,
        end: Option<Instant>,
        message: T,
        send: F,
    ) -> Result<R, Error>
    where
        T: Clone,
        F: Fn(Request<T>) -> Fut,
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = || async {
            let mut request = Request::new(message.clone());
            if let Some(end) = end {
                request.set_timeout(remaining(end));
            }
            let answer = send(request).await;
            answer
                .map(Response::into_inner)
                .map_err(|status| Error::from_status(&settings.server, status))
        };
        let attempts = attempt
            .retry(settings.retry.backoff())
            .when(Error::is_transient)
            .adjust(|error, delay| next_delay(error, delay?, end));
        let Some(deadline) = self.deadline else {
            return attempts.await;
        };
        match tokio::time::timeout(deadline, attempts).await {
            Ok(result) => result.map_err(|error| error.with_deadline(deadline)),
            Err(_) => Err(Error::Deadline { deadline }),
        }
    }
}

/// When to try again: not before the server wants it, and not at all when that is past the end.
fn next_delay(error: &Error, delay: Duration, end: Option<Instant>) -> Option<Duration> {
    let delay = delay.max(error.retry_after().unwrap_or_default());
    match end {
        Some(end) if remaining(end) <= delay => None,
        _ => Some(delay),
    }
}

fn remaining(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

/// Gives a call that has no request id one that no other call has, so that it is safe to repeat.
pub(crate) fn ensure_request_id(request_id: &mut String) {
    if request_id.is_empty() {
        *request_id = format!("{:032x}", fastrand::u128(..));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const CALL: UnaryCall = UnaryCall {
        method: "test/Call",
        deadline: Some(Duration::from_secs(30)),
    };

    const SOON: Duration = Duration::from_millis(1);

    fn settings(delay: Duration) -> Settings {
        Settings {
            server: "http://127.0.0.1:1".to_owned(),
            timeout: Duration::from_secs(30),
            retry: Retry { times: 4, delay },
        }
    }

    async fn calls_until(
        answers: &[Result<u32, Status>],
        delay: Duration,
    ) -> (Result<u32, Error>, usize) {
        let settings = settings(delay);
        let made = Cell::new(0);
        let result = CALL
            .send(&settings, (), |_| {
                let answer = answers[made.get()].clone();
                made.set(made.get() + 1);
                async move { answer.map(Response::new) }
            })
            .await;
        (result, made.get())
    }

    #[bounded::test]
    async fn what_may_pass_is_tried_again() {
        let gone = || Err(Status::unavailable("gone"));
        let (result, made) = calls_until(&[gone(), gone(), Ok(7)], SOON).await;
        assert_eq!((result.ok(), made), (Some(7), 3));
    }

    #[bounded::test]
    async fn what_will_not_pass_is_not_tried_again() {
        let (result, made) = calls_until(&[Err(Status::not_found("no")), Ok(7)], SOON).await;
        assert_eq!((result.is_err(), made), (true, 1));
    }

    #[bounded::test]
    async fn tries_are_bounded() {
        let answers = vec![Err(Status::unavailable("gone")); 9];
        let (result, made) = calls_until(&answers, SOON).await;
        assert_eq!((result.is_err(), made), (true, 5));
    }

    #[bounded::test]
    async fn no_try_is_planned_past_the_deadline() {
        let late = Duration::from_secs(60);
        let (result, made) = calls_until(&[Err(Status::unavailable("gone")), Ok(7)], late).await;
        assert_eq!(made, 1);
        assert!(matches!(result, Err(Error::Refused(_))));
    }

    #[bounded::test]
    async fn a_deadline_past_the_end_of_all_clocks_is_as_good_as_none() {
        let call = UnaryCall {
            deadline: Some(Duration::MAX),
            ..CALL
        };
        let answer = |_: Request<()>| async { Ok(Response::new(7)) };
        let result = call.send(&settings(SOON), (), answer).await;
        assert_eq!(result.ok(), Some(7));
    }

    #[bounded::test]
    async fn a_call_without_an_answer_ends_at_its_deadline() {
        let settings = settings(SOON);
        let call = UnaryCall {
            deadline: Some(SOON),
            ..CALL
        };
        let never = |_: Request<()>| std::future::pending::<Result<Response<u32>, Status>>();
        let result = call.send(&settings, (), never).await;
        assert!(matches!(result, Err(Error::Deadline { .. })));
    }
}
