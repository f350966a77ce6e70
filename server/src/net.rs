//! Serves HTTP on a TCP listener: accepts, limits, keeps alive and ends connections.
//!
//! Invariant: every connection and every HTTP/2 stream runs in a task that [`serve`] has joined when it
//! returns, and it returns at most `grace` (and a moment) after `stop`. One that panics ends with its connection, and
//! the others go on.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, rt::Executor};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
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
/// Time that a connection without streams has to answer GOAWAY before it is dropped.
const IDLE_LINGER: Duration = Duration::from_millis(500);
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
    /// Connections at the same time; further ones wait to be accepted.
    pub max_connections: usize,
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

/// Runs the tasks of a connection's HTTP/2 streams; all end with `kill`.
#[derive(Clone, Debug)]
struct StreamExecutor {
    /// Those of the connection.
    streams: TaskTracker,
    tasks: Tasks,
    kill: CancellationToken,
}

/// What the connections of a listener share.
#[derive(Clone)]
struct Connections {
    options: ServeOptions,
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
        let stream = async move {
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
            // The semaphore is never closed: without a slot there is nothing to accept.
            let slot = slots.clone().acquire_owned().await.ok()?;
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => return Some((stream, peer, slot)),
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
        let sent_data = self.stop.run_until_cancelled(has_sent_data(&stream)).await;
        if sent_data != Some(true) {
            return;
        }
        let info = TcpConnectInfo {
            local_addr: stream.local_addr().ok(),
            remote_addr: Some(peer),
        };
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(info.clone());
            service.clone().oneshot(request)
        });
        let executor = StreamExecutor {
            streams: TaskTracker::new(),
            tasks: self.tasks.clone(),
            kill: self.kill.child_token(),
        };
        let streams = executor.streams.clone();
        // Nothing that its streams still do can be sent to anybody, and not all of them notice.
        let kill = executor.kill.clone().drop_guard();
        let connection = self.options.builder(executor);
        let connection = connection.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = self.drive(connection, &streams).await {
            tracing::debug!(listener = self.options.name, %peer, %error, "connection ended");
        }
        drop(kill);
        streams.close();
        streams.wait().await;
    }

    /// Runs an HTTP connection to its end, and closes it.
    async fn drive<C>(&self, connection: C, streams: &TaskTracker) -> Result<(), BoxError>
    where
        C: GracefulConnection<Error = BoxError>,
    {
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.idle_or_killed(streams) => Ok(()),
        }
    }

    /// Ends when a connection that was asked to go may be dropped: on `kill`, or when it is idle.
    ///
    /// An idle HTTP/2 connection ends by itself only if its client answers; one that does not would
    /// hold up the shutdown until the deadline. HTTP/1.1 requests run in the connection's own task
    /// and cannot be counted here; hyper closes idle HTTP/1.1 connections without an answer.
    async fn idle_or_killed(&self, streams: &TaskTracker) {
        if self.options.protocol != Protocol::Http2 {
            return self.kill.cancelled().await;
        }
        streams.close();
        let idle = async {
            loop {
                streams.wait().await;
                sleep(IDLE_LINGER).await;
                if streams.is_empty() {
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

/// Whether the client sent the HTTP/2 preface, or something else that is not its beginning, in time.
///
/// hyper sets no limit to the time before the preface, so that silent connections would hold their
/// slots for ever.
async fn has_sent_data(stream: &TcpStream) -> bool {
    let speak = async {
        let mut first = [0; PREFACE.len()];
        loop {
            match stream.peek(&mut first).await {
                Ok(0) | Err(_) => return false,
                Ok(n) if n == first.len() || first[..n] != PREFACE[..n] => return true,
                // What was peeked keeps the socket readable: look again after a while.
                Ok(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(FIRST_BYTES_TIMEOUT, speak).await.unwrap_or(false)
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
