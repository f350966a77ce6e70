//! A session by its id.

use std::{fmt, time::Duration};

use crate::{
    call::UnaryCall,
    client::Client,
    error::Error,
    v1::{
        CloseSessionRequest, ErrorReason, GetSessionRequest, KeepAliveRequest, Session as Record,
        session_service,
    },
};

/// A session by its id; nothing keeps it alive but calls. Made by [`Client::session`].
#[derive(Clone)]
pub struct SessionHandle {
    client: Client,
    session_id: String,
}

impl SessionHandle {
    pub(super) fn new(client: Client, session_id: String) -> Self {
        Self { client, session_id }
    }

    /// Its id: a secret, which is enough to close the session and to unload what it alone holds.
    pub fn id(&self) -> &str {
        &self.session_id
    }

    /// What the session holds, and when it lapses. Does not keep it alive.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with SESSION_NOT_FOUND when it was closed or has lapsed.
    pub async fn get(&self) -> Result<Record, Error> {
        let call = self.call(session_service::GET_SESSION);
        let stub = self.client.session_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.get_session(request).await }
        };
        let request = GetSessionRequest {
            session_id: self.session_id.clone(),
        };
        let session = call
            .send(self.client.settings(), request, send)
            .await?
            .session;
        session.ok_or(Error::Protocol("GetSession gave no session"))
    }

    /// Starts its time to live anew.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn keep_alive(&self) -> Result<Record, Error> {
        self.keep_alive_within(self.client.settings().timeout).await
    }

    /// Ends it. Gives the models that are unloaded because nobody holds them any more.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get): also when the answer to a first try was lost and another try came after it.
    pub async fn close(&self) -> Result<Vec<String>, Error> {
        let call = self.call(session_service::CLOSE_SESSION);
        let stub = self.client.session_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.close_session(request).await }
        };
        let request = CloseSessionRequest {
            session_id: self.session_id.clone(),
        };
        let response = call.send(self.client.settings(), request, send).await?;
        Ok(response.unloading_model_ids)
    }

    /// As [`close`](Self::close), and succeeds when the session is not there any more.
    pub(super) async fn end(&self) -> Result<Vec<String>, Error> {
        match self.close().await {
            Err(error) if error.reason() == Some(ErrorReason::SessionNotFound) => Ok(Vec::new()),
            result => result,
        }
    }

    pub(super) async fn keep_alive_within(&self, deadline: Duration) -> Result<Record, Error> {
        let call = UnaryCall {
            deadline: Some(deadline),
            ..self.call(session_service::KEEP_ALIVE)
        };
        let stub = self.client.session_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.keep_alive(request).await }
        };
        let request = KeepAliveRequest {
            session_id: self.session_id.clone(),
        };
        let session = call
            .send(self.client.settings(), request, send)
            .await?
            .session;
        session.ok_or(Error::Protocol("KeepAlive gave no session"))
    }

    fn call(&self, method: &'static str) -> UnaryCall {
        UnaryCall {
            method,
            deadline: Some(self.client.settings().timeout),
        }
    }
}

impl fmt::Debug for SessionHandle {
    /// Without the id, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
