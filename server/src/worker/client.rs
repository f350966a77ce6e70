//! Calls to a worker.

use std::{error::Error, io, path::PathBuf, time::Duration};

use bytes::Bytes;
use hangar_client::v1;
use hangar_worker_protocol::{
    MAX_MESSAGE,
    v1::{
        DetokenizeRequest, EmbedRequest, LoadRequest, LoadResponse, PrepareWeightsRequest,
        ShutdownRequest, TokenizeRequest, WatchStatsRequest, WatchStatsResponse,
        load_response::Event, worker_service, worker_service_client::WorkerServiceClient,
    },
};
use http::uri::PathAndQuery;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    transport::{self, Channel},
};

use super::{
    call::{GenerateCall, RequestBounds},
    channel::{self, EncodedResponses},
    convert,
    stats::EngineStats,
};
use crate::{
    model::{Failure, ModelMetadata},
    telemetry, wire,
};

/// Calls to a worker. Cheap to clone: all clones share one connection.
#[derive(Clone, Debug)]
pub struct WorkerClient {
    stubs: WorkerServiceClient<Channel>,
    /// For Generate, whose responses stay encoded.
    grpc: Grpc<Channel>,
}

/// How far a load is.
#[derive(Clone, Debug, PartialEq)]
pub enum LoadEvent {
    /// The engine is built; this is all that is known about the model.
    EngineBuilt(Box<ModelMetadata>),
    /// A first token was generated, and sequences may be this long, if not as was told before. Nothing comes after it.
    Warmed { context_length: Option<u32> },
    /// The load failed. Nothing comes after it.
    Failed(Failure),
}

/// What a worker says while it loads.
#[derive(Debug)]
pub struct LoadEvents(Streaming<LoadResponse>);

/// What a worker says of its engine, time and again.
#[derive(Debug)]
pub struct StatsStream(Streaming<WatchStatsResponse>);

/// A call that broke off.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CallError(Box<Status>);

impl WorkerClient {
    /// Connects to the worker that listens on `socket`.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub async fn connect(socket: PathBuf) -> Result<Self, transport::Error> {
        let channel = channel::connect(socket).await?;
        Ok(Self {
            stubs: WorkerServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            grpc: Grpc::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        })
    }

    /// Has the model loaded, if it is not being loaded, and follows that from its beginning on.
    ///
    /// # Errors
    ///
    /// When the worker cannot be reached or refuses.
    pub async fn load(&mut self) -> Result<LoadEvents, CallError> {
        let load = self.stubs.load(traced(LoadRequest {})).await?;
        Ok(LoadEvents(load.into_inner()))
    }

    /// Follows what the engine does: at once, and then at each `interval`.
    ///
    /// # Errors
    ///
    /// When the worker cannot be reached or refuses.
    pub async fn watch_stats(&mut self, interval: Duration) -> Result<StatsStream, CallError> {
        let interval = wire::duration_message(interval);
        let stats = self
            .stubs
            .watch_stats(WatchStatsRequest { interval })
            .await?;
        Ok(StatsStream(stats.into_inner()))
    }

    /// Has the worker make an entry of prepared weights of what it has written, and gives its size in bytes: zero
    /// where there is none to be made.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub async fn prepare_weights(&mut self) -> Result<u64, CallError> {
        let prepared = self.stubs.prepare_weights(PrepareWeightsRequest {}).await?;
        Ok(prepared.into_inner().bytes)
    }

    /// Asks the worker to exit. Whether or not it answers, its exit is what counts.
    pub async fn shutdown(&mut self) {
        if let Err(error) = self.stubs.shutdown(ShutdownRequest {}).await {
            tracing::debug!(%error, "the worker did not answer that it would exit");
        }
    }

    /// Generates text. The responses are encoded `GenerateResponse`s, of the private and of the public API:
    /// both have the same fields. Nothing has looked into them.
    ///
    /// # Errors
    ///
    /// The worker's, or UNAVAILABLE without a connection.
    pub async fn generate(&mut self, call: GenerateCall) -> Result<Streaming<Bytes>, Status> {
        let request = traced(convert::generate(call));
        let ready = self.grpc.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::try_from(format!("/{}", worker_service::GENERATE));
        let path = path.map_err(|error| Status::internal(error.to_string()))?;
        let call = self.grpc.server_streaming(request, path, EncodedResponses);
        Ok(call.await?.into_inner())
    }

    /// Turns texts into vectors.
    ///
    /// # Errors
    ///
    /// As [`Self::generate`].
    pub async fn embed(
        &mut self,
        inputs: Vec<String>,
        bounds: RequestBounds,
    ) -> Result<Vec<v1::Embedding>, Status> {
        let bounds = Some(convert::bounds(bounds));
        let answer = self
            .stubs
            .embed(traced(EmbedRequest { inputs, bounds }))
            .await?;
        Ok(answer.into_inner().embeddings)
    }

    /// Splits a text or a conversation into tokens.
    ///
    /// # Errors
    ///
    /// As [`Self::generate`].
    pub async fn tokenize(
        &mut self,
        request: v1::TokenizeRequest,
    ) -> Result<v1::TokenizeResponse, Status> {
        let request = TokenizeRequest {
            request: Some(request),
        };
        let answer = self.stubs.tokenize(traced(request)).await?.into_inner();
        Ok(v1::TokenizeResponse {
            token_ids: answer.token_ids,
            prompt: answer.prompt,
        })
    }

    /// Puts tokens together to a text, without tokens such as that of a text's end if `skip_special_tokens`.
    ///
    /// # Errors
    ///
    /// As [`Self::generate`].
    pub async fn detokenize(
        &mut self,
        token_ids: Vec<u32>,
        skip_special_tokens: bool,
    ) -> Result<String, Status> {
        let request = DetokenizeRequest {
            token_ids,
            skip_special_tokens,
        };
        Ok(self
            .stubs
            .detokenize(traced(request))
            .await?
            .into_inner()
            .text)
    }
}

/// A request that carries the trace context of the current span.
fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    telemetry::propagate(request.metadata_mut());
    request
}

impl LoadEvents {
    /// The next one. `None` when the worker ended the stream itself.
    ///
    /// # Errors
    ///
    /// When the call breaks off.
    pub async fn next(&mut self) -> Result<Option<LoadEvent>, CallError> {
        let response = self.0.message().await?;
        let Some(event) = response.and_then(|response| response.event) else {
            return Ok(None);
        };
        Ok(Some(match event {
            Event::EngineBuilt(built) => {
                let metadata = convert::metadata(built.metadata.unwrap_or_default());
                LoadEvent::EngineBuilt(Box::new(metadata))
            }
            Event::Warmed(warmed) => LoadEvent::Warmed {
                context_length: Some(warmed.context_length).filter(|tokens| *tokens > 0),
            },
            Event::Failed(failure) => LoadEvent::Failed(convert::failure(failure)),
        }))
    }
}

impl StatsStream {
    /// The next ones. `None` when the worker has ended the stream.
    ///
    /// # Errors
    ///
    /// When the call breaks off.
    pub async fn next(&mut self) -> Result<Option<EngineStats>, CallError> {
        let stats = self.0.message().await?;
        Ok(stats.as_ref().map(convert::stats))
    }
}

impl CallError {
    /// Whether the worker itself ended the call so. Else its connection broke.
    pub fn is_answer(&self) -> bool {
        // What the worker says has no cause on this side.
        self.0.source().is_none()
    }

    /// Whether there is no listener on the worker's socket.
    pub fn is_unreachable(&self) -> bool {
        let mut cause = self.0.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                use io::ErrorKind::{ConnectionRefused, NotFound};
                return matches!(error.kind(), ConnectionRefused | NotFound);
            }
            cause = error.source();
        }
        false
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self(Box::new(status))
    }
}
