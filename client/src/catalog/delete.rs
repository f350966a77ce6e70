//! DeleteModel.

use crate::{
    call::{self, UnaryCall},
    client::Client,
    error::Error,
    unload::STOP,
    v1::{DeleteModelRequest, ModelUnload, catalog_service},
};

/// Removes an entry. Made by [`Client::delete_model`].
#[derive(Clone, Debug)]
#[must_use = "nothing is removed before `send`"]
pub struct DeleteModel {
    client: Client,
    request: DeleteModelRequest,
}

impl DeleteModel {
    pub(super) fn new(client: Client, model_id: String) -> Self {
        let request = DeleteModelRequest {
            model_id,
            ..Default::default()
        };
        Self { client, request }
    }

    /// Only if this is the entry's etag. Default: whatever it is.
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.request.etag = etag.into();
        self
    }

    /// Also when the model is loaded (it is unloaded first, without a drain) or has aliases (they go too).
    pub fn force(mut self) -> Self {
        self.request.force = true;
        self
    }

    /// Id that makes the call safe to repeat, also by another process. Default: one of its own.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request.request_id = request_id.into();
        self
    }

    /// Removes, and tells what unloading the model did; `None`: it was not loaded. Tried again when the
    /// server cannot be reached. With [`force`](Self::force) the answer may take up to 60 s more.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND, ETAG_MISMATCH, MODEL_DECLARED, and without
    /// [`force`](Self::force) MODEL_LOADED or MODEL_ALIASED.
    pub async fn send(mut self) -> Result<Option<ModelUnload>, Error> {
        call::ensure_request_id(&mut self.request.request_id);
        let timeout = self.client.settings().timeout;
        let call = UnaryCall {
            method: catalog_service::DELETE_MODEL,
            deadline: Some(match self.request.force {
                true => timeout.saturating_add(STOP),
                false => timeout,
            }),
        };
        let stub = self.client.catalog_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.delete_model(request).await }
        };
        Ok(call
            .send(self.client.settings(), self.request, send)
            .await?
            .unload)
    }
}
