//! UnloadModel: stops models; when it answers, their worker processes are gone.

use std::time::Duration;

use crate::{
    call::{self, UnaryCall},
    client::Client,
    convert::{to_duration, to_proto_duration},
    error::Error,
    v1::{
        ModelUnload, UnloadModelRequest, UnloadModelResponse, model_service,
        unload_model_request::Target,
    },
};

/// The server's default for [`Unload::drain_timeout`].
pub(crate) const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// Time that stopping and verifying may take after the drain.
pub(crate) const STOP: Duration = Duration::from_secs(60);

/// Unloads one model. Made by [`Client::unload`].
#[derive(Clone, Debug)]
#[must_use = "nothing is unloaded before `send`"]
pub struct Unload {
    client: Client,
    request: UnloadModelRequest,
}

/// Unloads all models. Made by [`Client::unload_all`].
#[derive(Clone, Debug)]
#[must_use = "nothing is unloaded before `send`"]
pub struct UnloadAll(Unload);

impl Client {
    /// Stops a model. When it answers, the worker process is gone and its memory was seen to be back, or not.
    pub fn unload(&self, model_id: impl Into<String>) -> Unload {
        Unload::new(self.clone(), model_id.into())
    }

    /// Stops all models; without [`UnloadAll::force`] not the required ones.
    pub fn unload_all(&self) -> UnloadAll {
        UnloadAll::new(self.clone())
    }
}

impl Unload {
    pub(crate) fn new(client: Client, model_id: String) -> Self {
        Self::of(client, Target::ModelId(model_id))
    }

    fn of(client: Client, target: Target) -> Self {
        let request = UnloadModelRequest {
            target: Some(target),
            ..Default::default()
        };
        Self { client, request }
    }

    /// How long running and waiting requests may go on. Default 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.request.drain_timeout = Some(to_proto_duration(timeout));
        self
    }

    /// Does not drain, and unloads although the model is required or held.
    pub fn force(mut self) -> Self {
        self.request.force = true;
        self
    }

    /// The session may unload the model as its only holder, without [`force`](Self::force). Takes a
    /// [`&Session`](crate::Session) or a session's id.
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.request.session_id = session.into();
        self
    }

    /// Id that makes the call safe to repeat, also by another process. Default: one of its own.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request.request_id = request_id.into();
        self
    }

    /// Unloads. Answers when the worker process is gone, at most 60 s after the drain. Tried again when
    /// the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND, MODEL_REQUIRED or MODEL_HELD.
    pub async fn send(self) -> Result<ModelUnload, Error> {
        let unload = self.send_any().await?.unloads.pop();
        unload
            .ok_or(Error::Protocol("UnloadModel gave no result for the model"))?
            .into_result()
    }

    async fn send_any(mut self) -> Result<UnloadModelResponse, Error> {
        call::ensure_request_id(&mut self.request.request_id);
        let call = UnaryCall {
            method: model_service::UNLOAD_MODEL,
            deadline: Some(self.deadline()),
        };
        let stub = self.client.model_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.unload_model(request).await }
        };
        call.send(self.client.settings(), self.request, send).await
    }

    fn deadline(&self) -> Duration {
        let drain = self
            .request
            .drain_timeout
            .as_ref()
            .map_or(DEFAULT_DRAIN, to_duration);
        drain.saturating_add(STOP)
    }
}

impl UnloadAll {
    pub(crate) fn new(client: Client) -> Self {
        Self(Unload::of(client, Target::All(true)))
    }

    /// As [`Unload::drain_timeout`].
    pub fn drain_timeout(self, timeout: Duration) -> Self {
        Self(self.0.drain_timeout(timeout))
    }

    /// Does not drain, and unloads also the models that are required or held.
    pub fn force(self) -> Self {
        Self(self.0.force())
    }

    /// As [`Unload::request_id`].
    pub fn request_id(self, request_id: impl Into<String>) -> Self {
        Self(self.0.request_id(request_id))
    }

    /// As [`Unload::send`]. How each model fared is in its [`ModelUnload::into_result`].
    ///
    /// # Errors
    ///
    /// When the call as a whole failed.
    pub async fn send(self) -> Result<UnloadModelResponse, Error> {
        self.0.send_any().await
    }
}

impl ModelUnload {
    /// This item of an unload of all models, or how it failed.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with what [`error`](Self::error) says, its reason and details included.
    pub fn into_result(self) -> Result<Self, Error> {
        match self.error {
            Some(status) => Err(Error::from(status)),
            None => Ok(self),
        }
    }
}
