//! CreateModel.

use crate::{
    call::{self, UnaryCall},
    client::Client,
    error::Error,
    v1::{CreateModelRequest, Model, ModelSpec, catalog_service},
};

/// Registers a model. Made by [`Client::create_model`].
#[derive(Clone, Debug)]
#[must_use = "nothing is registered before `send`"]
pub struct CreateModel {
    client: Client,
    request: CreateModelRequest,
}

impl CreateModel {
    pub(super) fn new(client: Client, model_id: String, spec: ModelSpec) -> Self {
        let request = CreateModelRequest {
            model_id,
            spec: Some(spec),
            ..Default::default()
        };
        Self { client, request }
    }

    /// Another name of the model. May be called more than once.
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.request.aliases.push(alias.into());
        self
    }

    /// Other names of the model, besides those that were given before.
    pub fn aliases(mut self, aliases: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.request
            .aliases
            .extend(aliases.into_iter().map(Into::into));
        self
    }

    /// Id that makes the call safe to repeat, also by another process. Default: one of its own.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request.request_id = request_id.into();
        self
    }

    /// Registers, and gives the new entry. Tried again when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_EXISTS when the id or an alias is taken, INVALID_FIELD,
    /// SOURCE_NOT_ALLOWED, LIMIT_REACHED or STORAGE_FULL.
    pub async fn send(mut self) -> Result<Model, Error> {
        call::ensure_request_id(&mut self.request.request_id);
        let call = UnaryCall {
            method: catalog_service::CREATE_MODEL,
            deadline: Some(self.client.settings().timeout),
        };
        let stub = self.client.catalog_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.create_model(request).await }
        };
        let response = call
            .send(self.client.settings(), self.request, send)
            .await?;
        response
            .model
            .ok_or(Error::Protocol("CreateModel gave no model"))
    }

    /// Only checks the call, and gives the entry as it would be.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); INVALID_FIELD lists every violation.
    pub async fn validate(mut self) -> Result<Model, Error> {
        self.request.validate_only = true;
        self.send().await
    }
}
