//! Calls over the generated stubs, with the client's errors.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    Client, Error, Transport,
    convert::to_proto_duration,
    v1::{
        CloseSessionRequest, CreateSessionRequest, DesiredState, GetSessionRequest,
        KeepAliveRequest, LoadModelRequest, LoadModelResponse, ModelInfo, ModelSpec, Session,
        SwitchInfo, SwitchModelRequest, SwitchModelResponse, SwitchStrategy, UnloadModelRequest,
        UnloadModelResponse, load_model_request, session_service_client::SessionServiceClient,
        unload_model_request,
    },
};
use tonic::{Response, Status};

use crate::info;

/// The stubs of one connection.
#[derive(Clone, Debug)]
pub struct Stubs(Client);

impl Stubs {
    /// Calls over the connection of `client`.
    pub fn new(client: &Client) -> Self {
        Self(client.clone())
    }

    /// LoadModel.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn load(&self, request: LoadModelRequest) -> Result<LoadModelResponse, Error> {
        self.response(self.0.model_service().load_model(request).await)
    }

    /// UnloadModel.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn unload(&self, request: UnloadModelRequest) -> Result<UnloadModelResponse, Error> {
        self.response(self.0.model_service().unload_model(request).await)
    }

    /// SwitchModel.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn switch(&self, request: SwitchModelRequest) -> Result<SwitchModelResponse, Error> {
        self.response(self.0.model_service().switch_model(request).await)
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn create_session(&self, ttl: Option<Duration>) -> Result<Session, Error> {
        let ttl = ttl.map(to_proto_duration);
        let mut sessions = self.sessions();
        let answer = sessions.create_session(CreateSessionRequest {
            ttl,
            ..CreateSessionRequest::default()
        });
        let session = self.response(answer.await)?.session;
        Ok(session.unwrap_or_default())
    }

    /// Keeps a session alive.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn keep_alive(&self, session_id: &str) -> Result<Session, Error> {
        let session_id = session_id.to_owned();
        let mut sessions = self.sessions();
        let answer = sessions.keep_alive(KeepAliveRequest { session_id });
        Ok(self.response(answer.await)?.session.unwrap_or_default())
    }

    /// Asks about a session.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn session(&self, session_id: &str) -> Result<Session, Error> {
        let session_id = session_id.to_owned();
        let mut sessions = self.sessions();
        let answer = sessions.get_session(GetSessionRequest { session_id });
        Ok(self.response(answer.await)?.session.unwrap_or_default())
    }

    /// Closes a session and gives the models that are unloaded for it.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn close(&self, session_id: &str) -> Result<Vec<String>, Error> {
        let session_id = session_id.to_owned();
        let mut sessions = self.sessions();
        let answer = sessions.close_session(CloseSessionRequest { session_id });
        Ok(self.response(answer.await)?.unloading_model_ids)
    }

    /// What the server reports of a model.
    ///
    /// # Errors
    ///
    /// When there is no such model.
    pub async fn info(&self, model_id: &str) -> Result<ModelInfo> {
        info::model(&self.0, model_id).await
    }

    /// Whether a model is to be loaded.
    ///
    /// # Errors
    ///
    /// When there is no such model.
    pub async fn is_desired(&self, model_id: &str) -> Result<bool> {
        Ok(self.info(model_id).await?.desired_state() == DesiredState::Loaded)
    }

    /// The last switch of each alias.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn switches(&self) -> Result<Vec<SwitchInfo>, Error> {
        Ok(self.0.info().send().await?.switches)
    }

    fn sessions(&self) -> SessionServiceClient<Transport> {
        SessionServiceClient::new(self.0.transport())
    }

    fn response<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Error> {
        answer
            .map(Response::into_inner)
            .map_err(|status| Error::from_answer(&self.0, status))
    }
}

/// Loads `model_id`, registered with `spec`, for a session, and waits.
pub fn load_for(session: &Session, model_id: &str, spec: ModelSpec) -> LoadModelRequest {
    LoadModelRequest {
        spec: Some(spec),
        session_id: session.session_id.clone(),
        ..load_again(model_id)
    }
}

/// Loads `model_id` as it is registered, and waits.
pub fn load_again(model_id: &str) -> LoadModelRequest {
    LoadModelRequest {
        target: Some(load_model_request::Target::ModelId(model_id.to_owned())),
        wait: true,
        ..LoadModelRequest::default()
    }
}

/// Unloads `model_id`.
pub fn unload(model_id: &str) -> UnloadModelRequest {
    UnloadModelRequest {
        target: Some(unload_model_request::Target::ModelId(model_id.to_owned())),
        ..UnloadModelRequest::default()
    }
}

/// Points `alias` at `model_id`.
pub fn switch(alias: &str, model_id: &str, strategy: SwitchStrategy) -> SwitchModelRequest {
    SwitchModelRequest {
        alias: alias.to_owned(),
        model_id: model_id.to_owned(),
        strategy: strategy.into(),
        ..SwitchModelRequest::default()
    }
}
