//! Embed: vectors of texts.

use std::time::Duration;

use crate::{
    call::UnaryCall,
    client::Client,
    convert::to_proto_duration,
    error::Error,
    v1::{EmbedRequest, EmbedResponse, inference_service},
};

/// An Embed call. Made by [`Client::embed`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `send`"]
pub struct Embed {
    client: Client,
    request: EmbedRequest,
    timeout: Option<Duration>,
}

impl Client {
    /// Turns texts into vectors, by an embedding model that is ready.
    pub fn embed(&self, model_id: impl Into<String>) -> Embed {
        Embed::new(self.clone(), model_id.into())
    }
}

impl Embed {
    pub(crate) fn new(client: Client, model_id: String) -> Self {
        Self {
            client,
            request: EmbedRequest {
                model_id,
                ..EmbedRequest::default()
            },
            timeout: None,
        }
    }

    /// Adds a text, whose vector has the same place among the answer's. None is empty.
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.request.inputs.push(text.into());
        self
    }

    /// Adds texts: at most 1,024 in all, of together at most 8 MiB.
    pub fn inputs<T: Into<String>>(mut self, texts: impl IntoIterator<Item = T>) -> Self {
        self.request
            .inputs
            .extend(texts.into_iter().map(Into::into));
        self
    }

    /// Of waiting requests, the one with the highest priority runs first. The default is 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.request.priority = priority;
        self
    }

    /// Ends the call after this time, queue and repetitions included. Without one it takes as long as it
    /// takes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout = Some(to_proto_duration(timeout));
        self.timeout = Some(timeout);
        self
    }

    /// Id for logs and traces, so that it should hold no secret. At most 128 characters. Not called: none.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request.request_id = request_id.into();
        self
    }

    /// Gives a vector for each text, in their order, and the tokens that they took. Tried again when the
    /// server cannot be reached, or will be able to answer soon.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND, MODEL_NOT_LOADED, MODEL_LOADING, QUEUE_FULL,
    /// UNSUPPORTED_BY_MODEL, CONTEXT_EXCEEDED or INVALID_FIELD; [`Error::Deadline`].
    pub async fn send(self) -> Result<EmbedResponse, Error> {
        let call = UnaryCall {
            method: inference_service::EMBED,
            deadline: self.timeout,
        };
        let stub = self.client.inference_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.embed(request).await }
        };
        call.send(self.client.settings(), self.request, send).await
    }
}
