//! Serves HTTP on a TCP listener: accepts, limits, keeps alive and ends connections.
//!
//! Invariant: every connection and every HTTP/2 stream runs in a task that [`serve`] has joined when it
//! returns, and it returns at most `grace` (and a moment) after `stop`. One that panics ends with its connection, and
//! the others go on.

mod activity;
mod stream_limit;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use activity::{ConnectionActivity, OpenConnections};
use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, rt::Executor};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
#[cfg(test)]
pub(crate) use stream_limit::limited;
pub use stream_limit::{end_stream_after, is_stream_overdue};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::TcpConnectInfo;
use tower::ServiceExt;

use crate::supervisor::{Supervisor, Tasks};

/// Error of a service or a response body.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Time that a new connection has to send the preface or the first bytes of a request.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that an HTTP/1.1 connection has to send the headers of its next request. Longer than the usual
/// pause between two scrapes.
const NEXT_HEADERS_TIMEOUT: Duration = Duration::from_secs(75);
/// Time that a connection without streams has to answer GOAWAY before it is dropped, at the end of the server and otherwise.
const IDLE_LINGER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Time that an HTTP/1.1 connection has to take its last answer.
const SLOW_LINGER: Duration = Duration::from_secs(60);
/// Between two looks for a connection that may be closed to make room for another.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest and longest pause after a failed accept.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Which HTTP versions a listener speaks, without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 with prior knowledge only.
    Http2,
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    Http1AndHttp2,
}

/// Limits of a listener and its connections.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Name of the listener in logs.
    pub name: &'static str,
    /// HTTP versions.
    pub protocol: Protocol,
    /// Connections at the same time; further ones wait, the first of them until an idle one has gone for it.
    pub max_connections: usize,
    /// A connection without streams for this long is ended.
    pub max_idle: Duration,
    /// And so is one this old, a tenth more or less, when its streams have ended; it gets no new ones.
    pub max_age: Duration,
    /// One without streams for this long may be closed to make room for another.
    pub yields_after: Duration,
    /// HTTP/2 streams at the same time on one connection.
    pub max_concurrent_streams: u32,
    /// Size of a request's headers in bytes: what is larger is answered with 431, without a status of gRPC. Calls may have
    /// less ([`crate::rpc::metadata_limit`]).
    pub max_header_list_size: u32,
    /// An HTTP/2 connection is pinged after this time without a frame.
    pub keep_alive_interval: Duration,
    /// And dropped when the ping is not answered for this time.
    pub keep_alive_timeout: Duration,
    /// Drops all connections at once.
    pub kill: CancellationToken,
}

/// Runs the tasks of a connection's HTTP/2 streams; all end with `kill`, and each at its limit, if it has one.
#[derive(Clone, Debug)]
struct StreamExecutor {
    /// Those of the connection.
    streams: TaskTracker,
    activity: Arc<ConnectionActivity>,
    tasks: Tasks,
    kill: CancellationToken,
}

/// What a client sends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstBytes {
    /// That of HTTP/2.
    Preface,
    /// Something else, such as a request of HTTP/1.1.
    Other,
}

/// What is known of a connection from outside.
struct DrivenConnection {
    first: FirstBytes,
    /// Its HTTP/2 streams.
    streams: TaskTracker,
    activity: Arc<ConnectionActivity>,
}

/// What the connections of a listener share.
#[derive(Clone)]
struct Connections {
    options: ServeOptions,
    open: Arc<OpenConnections>,
    tasks: Tasks,
    stop: CancellationToken,
    kill: CancellationToken,
}

/// Serves `service` on `listener` until `stop`, then ends the connections within `grace`.
///
/// After `stop` nothing more is accepted; clients get GOAWAY (HTTP/2) or `connection: close`
/// (HTTP/1.1), and requests in flight may end. What is left after `grace` is dropped, also
/// connections that never answer. When this returns, all tasks of the listener have ended.
///
/// A failed accept (for example EMFILE) is logged and retried after a pause. Requests carry tonic's
/// [`TcpConnectInfo`] in their extensions.
pub async fn serve<S, B>(
    supervisor: Supervisor,
    listener: TcpListener,
    service: S,
    options: ServeOptions,
    stop: CancellationToken,
    grace: Duration,
) where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let connections = Connections {
        tasks: supervisor.tasks(),
        stop,
        kill: options.kill.clone(),
        options,
        open: Arc::default(),
    };
    connections.accept(listener, service).await;
    connections.end(grace).await;
}

impl ServeOptions {
    /// Options of the main port: HTTP/2 only.
    pub fn main(max_connections: usize) -> Self {
        Self {
            name: "main",
            protocol: Protocol::Http2,
            max_connections,
            max_idle: Duration::from_mins(5),
            max_age: Duration::from_hours(1),
            yields_after: Duration::from_secs(5),
            max_concurrent_streams: 1024,
            max_header_list_size: 64 * 1024,
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(20),
            kill: CancellationToken::new(),
        }
    }

    /// Options of the ops port: HTTP/1.1 and HTTP/2.
    pub fn ops(max_connections: usize) -> Self {
        Self {
            name: "ops",
            protocol: Protocol::Http1AndHttp2,
            max_concurrent_streams: 128,
            ..Self::main(max_connections)
        }
    }

    fn builder(&self, executor: StreamExecutor) -> auto::Builder<StreamExecutor> {
        let mut builder = auto::Builder::new(executor);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(NEXT_HEADERS_TIMEOUT)
            .max_buf_size(self.max_header_list_size as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(self.keep_alive_interval)
            .keep_alive_timeout(self.keep_alive_timeout)
            .max_concurrent_streams(self.max_concurrent_streams)
            .max_header_list_size(self.max_header_list_size);
        match self.protocol {
            Protocol::Http2 => builder.http2_only(),
            Protocol::Http1AndHttp2 => builder,
        }
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let kill = self.kill.clone();
        let stream = stream_limit::limited(stream);
        let running = self.activity.begin();
        let stream = async move {
            let _running = running;
            tokio::select! {
                () = stream => {}
                () = kill.cancelled_owned() => {}
            }
        };
        self.tasks
            .isolated("stream", self.streams.track_future(stream));
    }
}

impl Connections {
    /// Accepts connections until `stop`.
    async fn accept<S, B>(&self, listener: TcpListener, service: S)
    where
        S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let slots = Arc::new(Semaphore::new(self.options.max_connections));
        let next = async || {
            let mut pause = ACCEPT_BACKOFF.0;
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => return Some((stream, peer, self.slot(&slots).await?)),
                    Err(error) if is_peers_fault(&error) => {}
                    Err(error) => {
                        tracing::error!(listener = self.options.name, %error, "cannot accept");
                        sleep(pause).await;
                        pause = (pause * 2).min(ACCEPT_BACKOFF.1);
                    }
                }
            }
        };
        while let Some(Some((stream, peer, slot))) = self.stop.run_until_cancelled(next()).await {
            let connections = self.clone();
            let service = service.clone();
            self.tasks.isolated("connection", async move {
                connections.run(stream, peer, service).await;
                drop(slot);
            });
        }
    }

    /// A place for one more connection, once there is one. `None`: there never will be.
    async fn slot(&self, slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            return Some(slot);
        }
        loop {
            // The one that was asked before is dropped within its linger, and what it leaves is seen a moment later.
            let leave = IDLE_LINGER.1 + ROOM_INTERVAL;
            self.open.make_room(self.options.yields_after, leave);
            if let Ok(slot) = timeout(ROOM_INTERVAL, slots.clone().acquire_owned()).await {
                return slot.ok();
            }
        }
    }

    /// Runs one connection to its end.
    async fn run<S, B>(&self, stream: TcpStream, peer: SocketAddr, service: S)
    where
        S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let first = self.stop.run_until_cancelled(first_bytes(&stream)).await;
        let Some(Some(first)) = first else {
            return;
        };
        let info = TcpConnectInfo {
            local_addr: stream.local_addr().ok(),
            remote_addr: Some(peer),
        };
        let activity = self.open.open();
        let requests = activity.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(info.clone());
            let running = requests.begin();
            let answer = service.clone().oneshot(request);
            async move {
                let _running = running;
                answer.await
            }
        });
        let executor = StreamExecutor {
            streams: TaskTracker::new(),
            activity: activity.clone(),
            tasks: self.tasks.clone(),
            kill: self.kill.child_token(),
        };
        let driven = DrivenConnection {
            first,
            streams: executor.streams.clone(),
            activity,
        };
        // Nothing that its streams still do can be sent to anybody, and not all of them notice.
        let kill = executor.kill.clone().drop_guard();
        let connection = self.options.builder(executor);
        let connection = connection.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = self.drive(connection, &driven).await {
            tracing::debug!(listener = self.options.name, %peer, %error, "connection ended");
        }
        drop(kill);
        driven.streams.close();
        driven.streams.wait().await;
    }

    /// Runs an HTTP connection to its end, and closes it.
    async fn drive<C>(&self, connection: C, driven: &DrivenConnection) -> Result<(), BoxError>
    where
        C: GracefulConnection<Error = BoxError>,
    {
        // Those that were opened together do not come again together.
        let age = self.options.max_age.mul_f64(0.9 + 0.2 * fastrand::f64());
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.stop.cancelled() => {}
            () = driven.activity.is_to_go(self.options.max_idle, age) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.idle_or_killed(driven) => Ok(()),
        }
    }

    /// Ends when a connection that was asked to go may be dropped: on `kill`, or when it is idle.
    ///
    /// An idle HTTP/2 connection ends by itself only if its client answers; one that does not would
    /// hold up the shutdown until the deadline. HTTP/1.1 requests run in the connection's own task
    /// and cannot be counted here; hyper closes idle HTTP/1.1 connections without an answer, and those whose client does not
    /// read theirs are dropped after a while.
    async fn idle_or_killed(&self, driven: &DrivenConnection) {
        if driven.first == FirstBytes::Other {
            let _ = timeout(SLOW_LINGER, self.kill.cancelled()).await;
            return;
        }
        driven.streams.close();
        let idle = async {
            loop {
                driven.streams.wait().await;
                tokio::select! {
                    () = sleep(IDLE_LINGER.1) => {}
                    () = self.stop.cancelled() => sleep(IDLE_LINGER.0).await,
                }
                if driven.streams.is_empty() {
                    return;
                }
            }
        };
        self.kill.run_until_cancelled(idle).await;
    }

    /// Waits for all connections, after `grace` by force.
    async fn end(&self, grace: Duration) {
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                listener = self.options.name,
                tasks = self.tasks.len(),
                "dropping connections that did not end in time"
            );
        }
        self.kill.cancel();
        self.tasks.wait().await;
    }
}

/// What the client sent first, if it sent something in time that is not a beginning of the HTTP/2 preface only.
///
/// hyper sets no limit to the time before the preface, so that silent connections would hold their
/// slots for ever.
async fn first_bytes(stream: &TcpStream) -> Option<FirstBytes> {
    let speak = async {
        let mut first = [0; PREFACE.len()];
        loop {
            match stream.peek(&mut first).await {
                Ok(0) | Err(_) => return None,
                Ok(n) if first[..n] != PREFACE[..n] => return Some(FirstBytes::Other),
                Ok(n) if n == first.len() => return Some(FirstBytes::Preface),
                // What was peeked keeps the socket readable: look again after a while.
                Ok(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(FIRST_BYTES_TIMEOUT, speak).await.unwrap_or(None)
}

/// Whether a failed accept concerns only the connection that was being accepted.
fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
