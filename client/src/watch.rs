//! Follows the status of models, across disconnects.
//!
//! Invariant: what a [`Watch`] hands out is the server's sequence without gaps and without repeats;
//! where continuity was lost there is a [`WatchEvent::Snapshot`] with `reset` instead.

mod cursor;
mod event;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::{Stream, StreamExt, future::BoxFuture};
use tonic::{Code, Streaming};

use self::cursor::{Cursor, Hole};
pub use self::event::WatchEvent;
use crate::{
    client::Client,
    convert::to_proto_duration,
    error::Error,
    v1::{ErrorReason, WatchStatusRequest, WatchStatusResponse},
};

/// A server that sends nothing for this long, not even a heartbeat (every 15 s, or at most 30 s), is taken for gone.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// What to watch, and from where on.
#[derive(Clone, Debug)]
pub struct WatchBuilder {
    client: Client,
    request: WatchStatusRequest,
}

/// A stream of [`WatchEvent`]s that resumes by itself.
///
/// It gives an error only when going on is hopeless (INVALID_ARGUMENT, OUT_OF_RANGE, PERMISSION_DENIED,
/// UNAUTHENTICATED, UNIMPLEMENTED), and then ends. Dropping it ends the watch.
pub struct Watch {
    state: State,
    /// Token of the last event that was handed out.
    token: String,
}

enum State {
    Idle(Box<WatchSession>),
    Busy(BoxFuture<'static, SessionEvent>),
    Ended,
}

/// A session after it has made an event.
type SessionEvent = (Box<WatchSession>, Result<WatchEvent, Error>);

/// Everything that one watch needs to go on.
struct WatchSession {
    client: Client,
    request: WatchStatusRequest,
    cursor: Cursor,
    connection: Option<Streaming<WatchStatusResponse>>,
    backoff: ExponentialBackoff,
    wait: Duration,
    /// A token was refused once; a second time ends the watch.
    token_refused: bool,
}

impl Client {
    /// Follows the status of models, across disconnects and restarts of the server.
    pub fn watch(&self) -> WatchBuilder {
        WatchBuilder::new(self.clone())
    }
}

impl WatchBuilder {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            request: WatchStatusRequest::default(),
        }
    }

    /// Watches this model, which need not be known yet. Without any: all models.
    pub fn model(mut self, model_id: impl Into<String>) -> Self {
        self.request.model_ids.push(model_id.into());
        self
    }

    /// Watches these models too.
    pub fn models(mut self, model_ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.request
            .model_ids
            .extend(model_ids.into_iter().map(Into::into));
        self
    }

    /// Shortest time between two [`WatchEvent::Progress`] of a model; from 0.1 s, which is the default.
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.request.progress_interval = Some(to_proto_duration(interval));
        self
    }

    /// Goes on behind an event of an earlier watch: no snapshot comes first unless continuity is lost.
    pub fn resume_token(mut self, token: impl Into<String>) -> Self {
        self.request.resume_token = token.into();
        self
    }

    /// The stream. It connects when it is first polled.
    pub fn stream(self) -> Watch {
        let token = self.request.resume_token.clone();
        let backoff = backoff(&self.client);
        let session = WatchSession {
            cursor: Cursor::new(token.clone(), !self.request.model_ids.is_empty()),
            client: self.client,
            request: self.request,
            connection: None,
            backoff,
            wait: Duration::ZERO,
            token_refused: false,
        };
        Watch {
            state: State::Idle(Box::new(session)),
            token,
        }
    }
}

impl Watch {
    /// The next event. `None` after an error.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Error>> {
        StreamExt::next(self).await
    }

    /// Where the watch stands: behind the last event that it gave. For
    /// [`WatchBuilder::resume_token`] of a later watch.
    pub fn resume_token(&self) -> &str {
        &self.token
    }
}

impl WatchSession {
    async fn run(mut self: Box<Self>) -> SessionEvent {
        let event = self.next_event().await;
        (self, event)
    }

    async fn next_event(&mut self) -> Result<WatchEvent, Error> {
        loop {
            match self.receive().await {
                Ok(response) => match self.cursor.accept(response) {
                    Ok(Some(event)) => {
                        self.backoff = backoff(&self.client);
                        self.token_refused = false;
                        return Ok(event);
                    }
                    Ok(None) => {}
                    Err(Hole(why)) => return Ok(self.disconnect(Error::Protocol(why))),
                },
                Err(error) => {
                    self.cursor.disconnected();
                    if self.is_final(&error) {
                        return Err(error);
                    }
                    return Ok(self.disconnect(error));
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<WatchStatusResponse, Error> {
        let timed_out = |_| Error::Deadline {
            deadline: RESPONSE_TIMEOUT,
        };
        let client = self.client.clone();
        let failed = |status| Error::from_status(client.server(), status);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                tokio::time::sleep(std::mem::take(&mut self.wait)).await;
                tokio::time::timeout(RESPONSE_TIMEOUT, self.connect())
                    .await
                    .map_err(timed_out)??
            }
        };
        let message = tokio::time::timeout(RESPONSE_TIMEOUT, connection.message())
            .await
            .map_err(timed_out)?;
        let ended = || failed(tonic::Status::unavailable("the server ended the watch"));
        let response = message.map_err(failed)?.ok_or_else(ended)?;
        self.connection = Some(connection);
        Ok(response)
    }

    async fn connect(&self) -> Result<Streaming<WatchStatusResponse>, Error> {
        let request = WatchStatusRequest {
            resume_token: self.cursor.token().to_owned(),
            ..self.request.clone()
        };
        let stream = self.client.model_service().watch_status(request).await;
        stream
            .map(tonic::Response::into_inner)
            .map_err(|status| Error::from_status(self.client.server(), status))
    }

    /// Whether another try cannot help. A token that the server does not take is given up once.
    fn is_final(&mut self, error: &Error) -> bool {
        if error.reason() == Some(ErrorReason::TokenInvalid) {
            let again = std::mem::replace(&mut self.token_refused, true);
            self.cursor.reset();
            return again;
        }
        matches!(
            error.code(),
            Code::InvalidArgument
                | Code::OutOfRange
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::Unimplemented
        )
    }

    fn disconnect(&mut self, error: Error) -> WatchEvent {
        self.connection = None;
        let delay = self.backoff.next().unwrap_or_default();
        self.wait = delay.max(error.retry_after().unwrap_or_default());
        WatchEvent::Disconnected {
            error,
            retry_in: self.wait,
        }
    }
}

fn backoff(client: &Client) -> ExponentialBackoff {
    let first = client.settings().retry.delay;
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(first.max(Duration::from_secs(5)))
        .without_max_times()
        .with_jitter()
        .build()
}

impl Stream for Watch {
    type Item = Result<WatchEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut future = match std::mem::replace(&mut this.state, State::Ended) {
            State::Idle(session) => Box::pin(session.run()),
            State::Busy(future) => future,
            State::Ended => return Poll::Ready(None),
        };
        match future.as_mut().poll(cx) {
            Poll::Pending => {
                this.state = State::Busy(future);
                Poll::Pending
            }
            Poll::Ready((session, item)) => {
                this.token.clear();
                this.token.push_str(session.cursor.token());
                if item.is_ok() {
                    this.state = State::Idle(session);
                }
                Poll::Ready(Some(item))
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("resume_token", &self.token)
            .finish_non_exhaustive()
    }
}
