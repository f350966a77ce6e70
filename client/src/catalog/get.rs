//! GetModel.

use crate::{
    call::UnaryCall,
    client::Client,
    error::Error,
    v1::{GetModelRequest, GetModelResponse, Model, catalog_service},
};

/// Gives an entry. Made by [`Client::get_model`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `send`"]
pub struct GetModel {
    client: Client,
    request: GetModelRequest,
}

/// Gives an entry unless the caller has it already. Made by [`GetModel::if_none_match`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `send`"]
pub struct GetModelIfChanged(GetModel);

/// Whether an entry is still the one that the caller has.
#[derive(Clone, Debug, PartialEq)]
pub enum Freshness {
    /// It is another one: this.
    Modified(Box<Model>),
    /// It is the same. Aliases are no part of the etag: they may have changed.
    NotModified,
}

impl GetModel {
    pub(super) fn new(client: Client, model_id: String) -> Self {
        let request = GetModelRequest {
            model_id,
            ..Default::default()
        };
        Self { client, request }
    }

    /// Only if the entry's etag is not this one.
    pub fn if_none_match(mut self, etag: impl Into<String>) -> GetModelIfChanged {
        self.request.if_none_match = etag.into();
        GetModelIfChanged(self)
    }

    /// Asks. Tried again when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND for an unknown model.
    pub async fn send(self) -> Result<Model, Error> {
        let response = self.ask().await?;
        response
            .model
            .ok_or(Error::Protocol("GetModel gave no model"))
    }

    async fn ask(self) -> Result<GetModelResponse, Error> {
        let call = UnaryCall {
            method: catalog_service::GET_MODEL,
            deadline: Some(self.client.settings().timeout),
        };
        let stub = self.client.catalog_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.get_model(request).await }
        };
        call.send(self.client.settings(), self.request, send).await
    }
}

impl GetModelIfChanged {
    /// Asks. Tried again when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// As [`GetModel::send`].
    pub async fn send(self) -> Result<Freshness, Error> {
        match self.0.ask().await? {
            GetModelResponse {
                not_modified: true, ..
            } => Ok(Freshness::NotModified),
            GetModelResponse {
                model: Some(model), ..
            } => Ok(Freshness::Modified(Box::new(model))),
            _ => Err(Error::Protocol("GetModel gave no model")),
        }
    }
}
