//! Calls of any bytes to any method, and their errors as they come over the wire: what stubs do not let through.

use std::{fmt, pin::pin, time::Duration};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
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

use crate::server::DEADLINE;

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
    /// When it has no end, or none with a status.
    pub async fn call(&self, call: RawCall) -> Result<RawAnswer> {
        let path = call.path.clone();
        let answer = timeout(DEADLINE, self.follow(call)).await;
        answer
            .context("no end")?
            .with_context(|| format!("a call to {path}"))
    }

    async fn follow(&self, call: RawCall) -> Result<RawAnswer> {
        let request = call.request(&self.authority)?;
        let stream = TokioIo::new(TcpStream::connect(&self.authority).await?);
        let (sender, connection) = handshake(TokioExecutor::new(), stream).await?;
        let mut answer = pin!(answer(sender, request));
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // What came before the connection's end is still to be read.
            _ = connection => answer.await,
        }
    }
}

async fn answer(mut sender: SendRequest<Body>, request: Request<Body>) -> Result<RawAnswer> {
    let (head, mut body) = sender.send_request(request).await?.into_parts();
    let mut bytes = 0;
    let mut end = head.headers;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => bytes += data.len(),
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
        let url = format!("http://{authority}{}", self.path);
        let mut request = Request::post(url).body(Body::new(Full::new(self.body)))?;
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
