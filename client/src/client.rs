//! The client: one connection that all calls share.

use std::{fmt, sync::Arc, time::Duration};

use tonic::{
    Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use crate::{
    call::{Retry, Settings},
    error::Error,
    trace::{TraceContext, Transport},
    v1::{
        catalog_service_client::CatalogServiceClient,
        inference_service_client::InferenceServiceClient, model_service_client::ModelServiceClient,
        session_service_client::SessionServiceClient,
    },
};

/// Largest message that is accepted, in bytes.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Largest answer of a model that is accepted, in bytes: 1,024 vectors are longer than other messages.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A client of one Hangar server.
///
/// Cheap to clone; clones share the connection, which is made anew by itself when it is lost.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    settings: Arc<Settings>,
}

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct Builder {
    server: String,
    connect_timeout: Duration,
    timeout: Duration,
    keepalive: Duration,
    user_agent: String,
    retry: Retry,
}

impl Client {
    /// Connects to a server, for example `http://127.0.0.1:50051` or `unix:///run/hangar.sock`.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when `server` is no such address, [`Error::Unreachable`] when nobody
    /// answers there.
    pub async fn connect(server: impl Into<String>) -> Result<Self, Error> {
        Self::builder(server).connect().await
    }

    /// A client that connects with its first call.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when `server` is no address.
    pub fn connect_lazy(server: impl Into<String>) -> Result<Self, Error> {
        Self::builder(server).connect_lazy()
    }

    /// A client with other settings than the default ones.
    pub fn builder(server: impl Into<String>) -> Builder {
        Builder {
            server: server.into(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(20),
            user_agent: concat!("hangar-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            retry: Retry {
                times: 4,
                delay: Duration::from_millis(100),
            },
        }
    }

    /// The stub of ModelService, for what the methods here do not cover.
    pub fn model_service(&self) -> ModelServiceClient<Transport> {
        ModelServiceClient::new(self.transport()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The stub of InferenceService, for what the methods here do not cover.
    pub fn inference_service(&self) -> InferenceServiceClient<Transport> {
        InferenceServiceClient::new(self.transport()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The stub of CatalogService, for what the methods here do not cover.
    pub fn catalog_service(&self) -> CatalogServiceClient<Transport> {
        CatalogServiceClient::new(self.transport()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The stub of SessionService, for what the methods here do not cover.
    pub fn session_service(&self) -> SessionServiceClient<Transport> {
        SessionServiceClient::new(self.transport()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The connection, for stubs of other services such as `grpc.health.v1`.
    pub fn transport(&self) -> Transport {
        self.transport.clone()
    }

    /// The address that the client was made for, as it was given.
    pub fn server(&self) -> &str {
        &self.settings.server
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Error {
    /// The error that a call over [`Client::transport`] ended with.
    pub fn from_answer(client: &Client, status: Status) -> Self {
        Self::from_status(client.server(), status)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.settings.server)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// How long making the connection may take. Default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call that the server answers at once may take, retries included. Default 30 s.
    ///
    /// Waiting for a load or an unload has its own limits.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Time between two pings while a call is under way; a server that does not answer one within 10 s
    /// is taken for gone. Default 20 s.
    pub fn keepalive(mut self, interval: Duration) -> Self {
        self.keepalive = interval;
        self
    }

    /// What the client calls itself. Default `hangar-client/VERSION`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// How often a call that is safe to repeat is repeated when the server cannot be reached. Default
    /// 4; zero: never.
    pub fn retries(mut self, retries: usize) -> Self {
        self.retry.times = retries;
        self
    }

    /// Wait before the first repetition, made up to twice as long by chance; doubles with each further one, up
    /// to 5 s. Default 0.1 s.
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry.delay = delay;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn connect(self) -> Result<Client, Error> {
        let channel = self.endpoint()?.connect().await;
        let channel = channel.map_err(|error| Error::unreachable(&self.server, error))?;
        Ok(self.client(channel))
    }

    /// Connects with the first call.
    ///
    /// # Errors
    ///
    /// As [`Client::connect_lazy`].
    pub fn connect_lazy(self) -> Result<Client, Error> {
        let channel = self.endpoint()?.connect_lazy();
        Ok(self.client(channel))
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let uri = uri(&self.server)?;
        let address = |error: tonic::transport::Error| Error::address(&self.server, error);
        Ok(Endpoint::from_shared(uri)
            .map_err(address)?
            .user_agent(self.user_agent.clone())
            .map_err(address)?
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(self.keepalive)
            .keep_alive_timeout(Duration::from_secs(10))
            .tcp_keepalive(Some(self.keepalive)))
    }

    fn client(self, channel: Channel) -> Client {
        let settings = Settings {
            server: self.server,
            timeout: self.timeout,
            retry: self.retry,
        };
        Client {
            transport: InterceptedService::new(channel, TraceContext),
            settings: Arc::new(settings),
        }
    }
}

/// Takes `host:port` for `http://host:port`, and refuses what this build cannot speak.
fn uri(server: &str) -> Result<String, Error> {
    if server.starts_with("unix:") || server.starts_with("http://") {
        return Ok(server.to_owned());
    }
    match server.split_once("://") {
        None if server.is_empty() => Err(Error::address(server, "it is empty")),
        None => Ok(format!("http://{server}")),
        Some(("https", _)) => Err(Error::address(
            server,
            "this client is built without TLS; use http://",
        )),
        Some((scheme, _)) => Err(Error::address(
            server,
            format!("unknown scheme `{scheme}`; use http:// or unix:"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_scheme_is_added_and_checked() {
        assert_eq!(
            uri("localhost:50051").ok().as_deref(),
            Some("http://localhost:50051")
        );
        assert_eq!(
            uri("http://[::1]:1").ok().as_deref(),
            Some("http://[::1]:1")
        );
        assert_eq!(
            uri("unix:///run/h.sock").ok().as_deref(),
            Some("unix:///run/h.sock")
        );
        for bad in ["", "https://host", "ftp://host"] {
            assert!(matches!(uri(bad), Err(Error::Address { .. })), "{bad}");
        }
    }

    #[bounded::test]
    async fn a_server_that_is_not_there_is_unreachable() {
        let error = Client::connect("http://127.0.0.1:1").await.err();
        assert!(error.is_some_and(|error| error.is_unreachable()));
    }
}
