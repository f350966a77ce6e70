//! Calls of any bytes to any method, and their errors as they come over the wire: what stubs do not let through.

use std::{
    convert::Infallible,
    fmt,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{Builder, Connection, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::{net::TcpStream, time::timeout};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        Bytes,
        http::{HeaderMap, HeaderName, HeaderValue, Request},
    },
};
use tonic_types::{ErrorInfo, StatusExt};

use crate::{background::Background, server::DEADLINE};

/// Longest message and details of an error together, as they are encoded in headers.
pub const MAX_ERROR: usize = 6 * 1024;

/// Calls a server, with a connection for each call: a client that keeps none to itself ends no call by itself.
#[derive(Clone, Debug)]
pub struct RawClient {
    authority: String,
}

/// One call.
#[derive(Clone, Debug)]
pub struct RawCall {
    /// For example `/hangar.v1.ModelService/GetInfo`.
    pub path: String,
    /// All frames.
    pub body: Bytes,
    /// Headers beyond those that every call has, in place of them where they are the same.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Bytes of the responses.
    pub bytes: usize,
    /// The end.
    pub status: Status,
    /// Bytes of the error's message and details, as they were sent.
    pub encoded: usize,
}

/// A call whose responses are read one by one.
#[derive(Debug)]
pub struct RawStream {
    responses: Incoming,
    /// What came of the next messages.
    received: Vec<u8>,
    /// Ends with the call.
    _connection: Background<hyper::Result<()>>,
}

/// How far a call has come.
#[derive(Debug, Default)]
struct Progress {
    /// Whether its headers came.
    headers: AtomicBool,
    /// Bytes that came.
    bytes: AtomicUsize,
}

/// What stands before each message: a flag, and its length.
const HEAD: usize = 5;

/// Time between two PINGs on a connection, and for the answer to each.
const PING: Duration = Duration::from_secs(10);

impl RawClient {
    /// Calls the server at `url`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub async fn connect(url: &str) -> Result<Self> {
        let authority = url.strip_prefix("http://").context("no http:// URL")?;
        TcpStream::connect(authority).await?;
        Ok(Self {
            authority: authority.to_owned(),
        })
    }

    /// Makes a call and follows it to its end.
    ///
    /// # Errors
    ///
    /// When it has no end, or none with a status. Of a call without an end it says what came of it, and whether its
    /// connection answers.
    pub async fn call(&self, call: RawCall) -> Result<RawAnswer> {
        let path = call.path.clone();
        let progress = Progress::default();
        let mut following = pin!(self.follow(call, &progress));
        let answer = match timeout(DEADLINE, &mut following).await {
            Ok(answer) => answer,
            // A PING without an answer would end the call meanwhile.
            Err(_) => match timeout(3 * PING, &mut following).await {
                Err(_) => Err(anyhow::anyhow!("its connection answers PING")),
                Ok(Ok(answer)) => Err(anyhow::anyhow!("the end came late: {answer}")),
                Ok(Err(error)) => Err(error),
            }
            .context("no end"),
        };
        answer.with_context(|| format!("a call to {path}, {progress}"))
    }

    /// Begins a call with these bytes as well, each in a DATA frame of its own.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn begin(
        &self,
        call: RawCall,
        more: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<RawStream> {
        let request = call.streaming(&self.authority, more)?;
        self.begin_within(request, None).await
    }

    /// Begins a call that never has room for a response.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn begin_without_room(&self, call: RawCall) -> Result<RawStream> {
        let request = call.request(&self.authority)?;
        self.begin_within(request, Some(0)).await
    }

    async fn begin_within(&self, request: Request<Body>, window: Option<u32>) -> Result<RawStream> {
        let (mut sender, connection) = self.connection(window).await?;
        let connection = Background::start(connection);
        let answer = timeout(DEADLINE, sender.send_request(request)).await;
        Ok(RawStream {
            responses: answer.context("no answer")??.into_body(),
            received: Vec::new(),
            _connection: connection,
        })
    }

    async fn follow(&self, call: RawCall, progress: &Progress) -> Result<RawAnswer> {
        let request = call.request(&self.authority)?;
        let (sender, connection) = self.connection(None).await?;
        let mut answer = pin!(answer(sender, request, progress));
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // What came before the connection's end is still to be read.
            end = connection => answer.await.with_context(|| format!("the connection ended: {end:?}")),
        }
    }

    /// A connection of its own, which ends when a PING is not answered. Where `window` is given, a stream may bring so many
    /// bytes before it is read.
    async fn connection(
        &self,
        window: Option<u32>,
    ) -> Result<(
        SendRequest<Body>,
        Connection<TokioIo<TcpStream>, Body, TokioExecutor>,
    )> {
        let stream = TokioIo::new(TcpStream::connect(&self.authority).await?);
        Ok(Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .initial_stream_window_size(window)
            .handshake(stream)
            .await?)
    }
}

async fn answer(
    mut sender: SendRequest<Body>,
    request: Request<Body>,
    progress: &Progress,
) -> Result<RawAnswer> {
    let (head, mut body) = sender.send_request(request).await?.into_parts();
    progress.headers.store(true, Ordering::Relaxed);
    let mut bytes = 0;
    let mut end = head.headers;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                bytes += data.len();
                progress.bytes.store(bytes, Ordering::Relaxed);
            }
            Err(frame) => end = frame.into_trailers().unwrap_or_default(),
        }
    }
    let status = Status::from_header_map(&end);
    Ok(RawAnswer {
        bytes,
        status: status.with_context(|| format!("HTTP {} without a status", head.status))?,
        encoded: encoded(&end),
    })
}

impl RawStream {
    /// The next message; nothing at the end.
    ///
    /// # Errors
    ///
    /// When the call fails, or nothing comes.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(message) = self.message() {
                return Ok(Some(message));
            }
            let frame = timeout(DEADLINE, self.responses.frame()).await;
            let frame = frame.context("nothing comes")?;
            match frame.context("an end without a status")??.into_data() {
                Ok(data) => self.received.extend_from_slice(&data),
                Err(frame) => {
                    let end = frame.into_trailers().unwrap_or_default();
                    let status = Status::from_header_map(&end).context("no status")?;
                    ensure!(status.code() == Code::Ok, "{status}");
                    return Ok(None);
                }
            }
        }
    }

    /// Waits for what comes next, and says whether it is a reset.
    ///
    /// # Errors
    ///
    /// When nothing comes.
    pub async fn is_reset(&mut self) -> Result<bool> {
        let next = timeout(DEADLINE, self.responses.frame()).await;
        Ok(matches!(next.context("no reset")?, Some(Err(_))))
    }

    /// A whole message, if one has come.
    fn message(&mut self) -> Option<Vec<u8>> {
        let (head, rest) = self.received.split_first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let message = rest.get(..length)?.to_vec();
        self.received.drain(..HEAD + length);
        Some(message)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.load(Ordering::Relaxed);
        match self.headers.load(Ordering::Relaxed) {
            true => write!(f, "headers and {bytes} bytes came"),
            false => f.write_str("no headers came"),
        }
    }
}

impl RawCall {
    /// A call to `path` with one message.
    pub fn of(path: &str, message: &[u8]) -> Self {
        Self {
            path: path.to_owned(),
            body: frame(message),
            headers: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        // What no header can carry is sent as nothing.
        let value = HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""));
        self.headers.push((name, value));
        self
    }

    /// Has the server end the call after this time.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        self.header("grpc-timeout", &format!("{}m", time.as_millis()))
    }

    fn request(self, authority: &str) -> Result<Request<Body>> {
        let body = Body::new(Full::new(self.body.clone()));
        self.with_body(authority, body)
    }

    /// With `more` behind its body.
    fn streaming(
        self,
        authority: &str,
        more: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Request<Body>> {
        let frames = stream::iter([self.body.clone()]).chain(more);
        let frames = frames.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
        self.with_body(authority, Body::new(StreamBody::new(frames)))
    }

    fn with_body(self, authority: &str, body: Body) -> Result<Request<Body>> {
        let url = format!("http://{authority}{}", self.path);
        let mut request = Request::post(url).body(body)?;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.extend(self.headers);
        Ok(request)
    }
}

impl RawAnswer {
    /// What every error has to carry.
    ///
    /// # Errors
    ///
    /// When it carries no reason, details that do not fit to the status, or more than may be sent.
    pub fn error_info(&self) -> Result<ErrorInfo> {
        ensure!(self.status.code() != Code::Ok, "the call succeeded");
        ensure!(self.encoded <= MAX_ERROR, "{} bytes: {self}", self.encoded);
        let info = self.status.get_details_error_info();
        let info = info.with_context(|| format!("no ErrorInfo: {self}"))?;
        ensure!(
            info.domain == "hangar.v1" && !info.reason.is_empty(),
            "{info:?}"
        );
        let details = tonic_types::Status::decode(self.status.details())?;
        let same =
            details.code == self.status.code() as i32 && details.message == self.status.message();
        ensure!(same, "details of another error: {self}");
        Ok(info)
    }
}

impl fmt::Display for RawAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message: String = self.status.message().chars().take(200).collect();
        write!(f, "{:?} {message}", self.status.code())
    }
}

/// A message in its frame.
pub fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

fn encoded(headers: &HeaderMap) -> usize {
    let long = |name: &str| headers.get(name).map_or(0, HeaderValue::len);
    long("grpc-message") + long("grpc-status-details-bin")
}
