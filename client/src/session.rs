//! SessionService: models that are held for as long as this client lives.
//!
//! Invariant: an open [`Session`] owns the task that keeps it alive; when the session is dropped, the
//! task is gone, and the server lets the session lapse.

mod handle;
mod lease;

use std::{
    fmt,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};

pub use self::handle::SessionHandle;
use self::lease::{Lease, LeaseState};
use crate::{
    call::UnaryCall,
    client::Client,
    convert::{to_duration, to_proto_duration},
    error::Error,
    v1::{CreateSessionRequest, Session as Record, session_service},
};

/// A session that keeps itself alive. Made by [`Client::open_session`].
///
/// Models that were loaded with it ([`Load::session`](crate::Load::session)) stay loaded as long as
/// it lives. [`close`](Self::close) gives them up at once. Dropping it without that stops the
/// keep-alive, so that the session lapses after its time to live: a drop cannot wait for the server.
///
/// A task of the runtime that opened the session keeps it alive at a third of its time to live. It goes on
/// through failures; when the session has expired, [`expired`](Self::expired) says so.
///
/// ```no_run
/// # async fn example(client: hangar_client::Client) -> Result<(), hangar_client::Error> {
/// use std::time::Duration;
///
/// let session = client.open_session(Duration::from_secs(60)).await?;
/// client.load("qwen").session(&session).wait().await?;
/// tokio::select! {
///     answer = client.generate("qwen").prompt("Once upon a time").text() => {
///         println!("{}", answer?.text);
///     }
///     error = session.expired() => eprintln!("the model may be gone: {error}"),
/// }
/// session.close().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a session that is dropped lapses"]
pub struct Session {
    handle: SessionHandle,
    holder: String,
    ttl: Duration,
    /// Why it has expired. The sender lives in the task.
    expired: watch::Receiver<Option<Error>>,
    keep_alive: JoinSet<()>,
}

impl Client {
    /// Opens a session that lives for `ttl` (from 1 s to 24 h) after it was last kept alive, and keeps it
    /// alive until it is closed or dropped.
    ///
    /// Tried again when the server cannot be reached; a session that was opened without this client
    /// hearing of it lapses by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with INVALID_FIELD for another `ttl`, or LIMIT_REACHED.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn open_session(&self, ttl: Duration) -> Result<Session, Error> {
        self.open_session_as("", ttl).await
    }

    /// As [`open_session`](Self::open_session), with a name of at most 63 letters, digits and `._-` that others see
    /// the session by: [`Session::holder`] begins with it.
    ///
    /// # Errors
    ///
    /// As [`open_session`](Self::open_session).
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn open_session_as(
        &self,
        display_name: &str,
        ttl: Duration,
    ) -> Result<Session, Error> {
        let opened = Instant::now();
        let record = self.create_session_as(display_name, ttl).await?;
        let ttl = record.ttl.as_ref().map_or(ttl, to_duration);
        let handle = self.session(record.session_id);
        let (sender, expired) = watch::channel(None);
        let mut keep_alive = JoinSet::new();
        let lease = Lease::new(ttl, opened);
        let kept = handle.clone();
        keep_alive.spawn(async move {
            let error = keep(&kept, lease).await;
            sender.send_replace(Some(error));
        });
        Ok(Session {
            handle,
            holder: record.holder,
            ttl,
            expired,
            keep_alive,
        })
    }

    /// Opens a session and leaves it to the caller to keep it alive, with [`Client::session`].
    ///
    /// # Errors
    ///
    /// As [`open_session`](Self::open_session).
    pub async fn create_session(&self, ttl: Duration) -> Result<Record, Error> {
        self.create_session_as("", ttl).await
    }

    /// As [`create_session`](Self::create_session), with a name that others see the session by.
    ///
    /// # Errors
    ///
    /// As [`open_session`](Self::open_session).
    pub async fn create_session_as(
        &self,
        display_name: &str,
        ttl: Duration,
    ) -> Result<Record, Error> {
        let call = UnaryCall {
            method: session_service::CREATE_SESSION,
            deadline: Some(self.settings().timeout),
        };
        let stub = self.session_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.create_session(request).await }
        };
        let request = CreateSessionRequest {
            ttl: Some(to_proto_duration(ttl)),
            display_name: display_name.to_owned(),
        };
        let response = call.send(self.settings(), request, send).await?;
        response
            .session
            .ok_or(Error::Protocol("CreateSession gave no session"))
    }

    /// A session that somebody opened, by its id. Nothing is asked yet, and nothing keeps it alive by itself.
    pub fn session(&self, session_id: impl Into<String>) -> SessionHandle {
        SessionHandle::new(self.clone(), session_id.into())
    }
}

impl Session {
    /// Its id: a secret, which is enough to close the session and to unload what it alone holds.
    pub fn id(&self) -> &str {
        self.handle.id()
    }

    /// How others see it: in `ModelInfo.holders`, errors and the server's log.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// How long it lives after it was last kept alive.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// What the server knows about it.
    ///
    /// # Errors
    ///
    /// As [`SessionHandle::get`].
    pub async fn get(&self) -> Result<Record, Error> {
        self.handle.get().await
    }

    /// Whether it has expired, as [`expired`](Self::expired) says it.
    pub fn is_expired(&self) -> bool {
        self.expired.borrow().is_some()
    }

    /// Ends when the session has expired: the server does not know it any more (it lapsed or the server was
    /// restarted), or could not be reached for its whole time to live. Says why. The models that it
    /// held may be unloaded, and nothing keeps it alive any more: open another one.
    pub async fn expired(&self) -> Error {
        let mut expired = self.expired.clone();
        let error = match expired.wait_for(Option::is_some).await {
            Ok(error) => error.clone(),
            Err(_) => None,
        };
        error.unwrap_or(Error::Protocol(
            "the task that keeps the session alive ended",
        ))
    }

    /// Ends the session. The models that nobody else holds, and that are not to be loaded anyway, are
    /// drained and unloaded; gives their ids and does not wait for that.
    ///
    /// A session that is not there any more is closed as well: then there are none.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached; the session lapses then.
    pub async fn close(mut self) -> Result<Vec<String>, Error> {
        self.keep_alive.shutdown().await;
        self.handle.end().await
    }

    /// Stops keeping the session alive here, and gives its id for somebody else to do so.
    pub async fn release(mut self) -> String {
        self.keep_alive.shutdown().await;
        self.handle.id().to_owned()
    }
}

/// Keeps a session alive until it has expired, and tells why.
async fn keep(session: &SessionHandle, mut lease: Lease) -> Error {
    loop {
        tokio::time::sleep(lease.pause()).await;
        let begun = Instant::now();
        let result = session.keep_alive_within(lease.time_for_a_try(begun)).await;
        match lease.after(result.map(drop), begun, Instant::now()) {
            LeaseState::Alive => {}
            LeaseState::Expired(error) => return error,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("holder", &self.holder)
            .field("ttl", &self.ttl)
            .field("is_expired", &self.is_expired())
            .finish_non_exhaustive()
    }
}

impl From<&Session> for String {
    /// Its id.
    fn from(session: &Session) -> Self {
        session.id().to_owned()
    }
}
