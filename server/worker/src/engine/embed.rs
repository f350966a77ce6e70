//! Makes vectors of texts.
//!
//! One text is with the engine at a time: the engine would pad texts of different lengths and pool the padding
//! with them. So a vector is the same whatever else is asked at the time. What the engine makes is received by
//! a task that outlives the caller, since a failed write ends the engine; a caller that goes away is noticed
//! between two texts.

use std::sync::Arc;

use hangar_client::v1::Embedding;
use hangar_worker_protocol::v1::{EmbedRequest, EmbedResponse};
use mistralrs::core::{NormalRequest, Request, RequestMessage, Response, SamplingParams};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Instrument;

use crate::{
    engine::{Engine, embedder::Embedder, request_limits::RequestLimits},
    grpc_error,
};

/// Texts of one request on their way.
struct EmbedBatch {
    engine: Arc<Engine>,
    inputs: Vec<Vec<u32>>,
    caller: oneshot::Sender<Result<Vec<Embedding>, Status>>,
}

impl Engine {
    /// Makes a vector of each text.
    pub(crate) async fn embed(
        self: &Arc<Self>,
        request: EmbedRequest,
    ) -> Result<EmbedResponse, Status> {
        if self.embedder.is_none() {
            return Err(grpc_error::unsupported_by_model(
                "this model gives text and no vectors; use Generate, or load an embedding model",
            ));
        }
        let (engine, bytes) = (Arc::clone(self), request.encoded_len());
        let bounds = RequestLimits::of(request.bounds)?;
        let made = move |cancelled: &CancellationToken| {
            let inputs = request.inputs.iter().enumerate();
            let inputs = inputs
                .map(|(n, text)| engine.input(n, text, cancelled))
                .collect::<Result<Vec<_>, Status>>()?;
            let lengths: Vec<_> = inputs.iter().map(Vec::len).collect();
            bounds.check(&lengths, &engine.stats)?;
            Ok(inputs)
        };
        let inputs = self.call_work.run(bytes, made).await?;
        let embeddings = self.compute(inputs).await?;
        Ok(EmbedResponse { embeddings })
    }

    /// Makes a vector of each text, given in tokens that were checked.
    pub(super) async fn compute(
        self: &Arc<Self>,
        inputs: Vec<Vec<u32>>,
    ) -> Result<Vec<Embedding>, Status> {
        let (caller, answer) = oneshot::channel();
        let batch = EmbedBatch {
            engine: Arc::clone(self),
            inputs,
            caller,
        };
        self.run_to_its_end(batch.wait_and_run().instrument(tracing::Span::current()));
        answer
            .await
            .unwrap_or_else(|_| Err(grpc_error::internal("the request ended without an answer")))
    }

    /// Refuses to generate text with an embedding model.
    pub(super) fn check_gives_text(&self) -> Result<(), Status> {
        match &self.embedder {
            None => Ok(()),
            Some(_) => Err(grpc_error::unsupported_by_model(
                "this model gives vectors and no text; use Embed, or load a text model",
            )),
        }
    }

    /// The tokens of the `n`th text. Blocks for as long as it is long.
    fn input(
        &self,
        n: usize,
        text: &str,
        cancelled: &CancellationToken,
    ) -> Result<Vec<u32>, Status> {
        let field = format!("inputs[{n}]");
        let tokens = self.encode(&field, text, cancelled)?;
        self.check_tokens(&field, &tokens)?;
        if tokens.len() > self.context_length() {
            let embedder = self.embedder.as_ref();
            let bound = embedder.and_then(|embedder| embedder.bound(self.context_length()));
            let bound = bound.map_or_else(String::new, |field| format!(", by {field}"));
            return Err(grpc_error::context_exceeded(
                &field,
                format!(
                    "is {} tokens long, more than the {} of the model's context{bound}",
                    tokens.len(),
                    self.context_length()
                ),
            ));
        }
        Ok(tokens)
    }

    /// The vector of one text.
    async fn vector(&self, embedder: &Embedder, tokens: Vec<u32>) -> Result<Embedding, Status> {
        let token_count = tokens.len();
        let tokens = embedder.engine_tokens(tokens);
        let engine_tokens = tokens.len();
        let in_flight = self.stats.begin(engine_tokens);
        // Room for the one answer that there is.
        let (to_run, mut responses) = mpsc::channel(1);
        let message = RequestMessage::EmbeddingTokens { prompt: tokens };
        let sampling = SamplingParams::neutral();
        let id = self.request_id();
        let request = NormalRequest::new_simple(message, sampling, to_run, id, None, None);
        let request = Request::Normal(Box::new(request));
        if self.sender.send(request).await.is_err() {
            return Err(self.ended_without_reason().await);
        }
        let response = responses.recv().await;
        match response {
            Some(Response::Embeddings { .. }) => in_flight.reading().step(),
            _ => self.stats.count_step(),
        }
        let made = match response {
            Some(Response::Embeddings { embeddings, .. }) => embeddings,
            Some(Response::ValidationError(e)) => {
                return Err(grpc_error::invalid_field("inputs", e.to_string()));
            }
            Some(Response::InternalError(e)) => return Err(grpc_error::internal(e.to_string())),
            Some(Response::ModelError(e, _) | Response::CompletionModelError(e, _)) => {
                return Err(grpc_error::internal(e));
            }
            Some(_) => {
                return Err(grpc_error::internal(
                    "the engine answered with something that is no vector",
                ));
            }
            None => return Err(self.ended_without_reason().await),
        };
        let values = embedder
            .finish(made, engine_tokens)
            .map_err(grpc_error::internal)?;
        Ok(Embedding {
            values,
            token_count: u32::try_from(token_count).unwrap_or(u32::MAX),
        })
    }
}

impl EmbedBatch {
    async fn wait_and_run(mut self) {
        let engine = Arc::clone(&self.engine);
        let permit = tokio::select! {
            biased;
            () = self.caller.closed() => return,
            // A vector needs nothing of a KV cache.
            permit = engine.scheduler.acquire(0) => permit,
        };
        // The scheduler is never closed, and only embedding models get here.
        let (Some(_permit), Some(embedder)) = (permit, &engine.embedder) else {
            return;
        };
        let mut embeddings = Vec::with_capacity(self.inputs.len());
        let mut count = 0;
        for tokens in std::mem::take(&mut self.inputs) {
            if self.caller.is_closed() {
                return;
            }
            match engine.vector(embedder, tokens).await {
                Ok(embedding) => {
                    count += i64::from(embedding.token_count);
                    embeddings.push(embedding);
                }
                Err(status) => {
                    // A caller that has gone wants no error.
                    let _ = self.caller.send(Err(status));
                    return;
                }
            }
        }
        tracing::Span::current().record("gen_ai.usage.input_tokens", count);
        let _ = self.caller.send(Ok(embeddings));
    }
}
