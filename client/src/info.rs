//! GetInfo: what the server is, has and does.

use crate::{
    call::UnaryCall,
    client::Client,
    error::Error,
    v1::{GetInfoRequest, GetInfoResponse, InfoView, model_service},
};

/// A GetInfo call. Made by [`Client::info`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `send`"]
pub struct Info {
    client: Client,
    request: GetInfoRequest,
}

impl Client {
    /// What the server is and has, and how its models are: all of them, or one.
    pub fn info(&self) -> Info {
        Info::new(self.clone())
    }
}

impl Info {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            request: GetInfoRequest::default(),
        }
    }

    /// Only about this model, by its id or an alias.
    pub fn model(mut self, model_id: impl Into<String>) -> Self {
        self.request.model_id = model_id.into();
        self
    }

    /// How much to tell of each model. Default: everything of one model, the basics of all.
    pub fn view(mut self, view: InfoView) -> Self {
        self.request.set_view(view);
        self
    }

    /// Adds what the models did since the server started.
    pub fn metrics(mut self) -> Self {
        self.request.include_metrics = true;
        self
    }

    /// Adds what the model did in each minute of the last day. Only together with [`Self::model`].
    pub fn include_history(mut self) -> Self {
        self.request.include_history = true;
        self
    }

    /// Asks. Tried again when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND for an unknown model, and with INVALID_FIELD for the history
    /// of no model.
    pub async fn send(self) -> Result<GetInfoResponse, Error> {
        let call = UnaryCall {
            method: model_service::GET_INFO,
            deadline: Some(self.client.settings().timeout),
        };
        let stub = self.client.model_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.get_info(request).await }
        };
        call.send(self.client.settings(), self.request, send).await
    }
}
