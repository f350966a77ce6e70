//! The sessions of a script.

use hangar_client::v1::{
    CloseSessionRequest, CloseSessionResponse, CreateSessionRequest, CreateSessionResponse,
    GetSessionRequest, GetSessionResponse, KeepAliveRequest, KeepAliveResponse,
    session_service_server::SessionService,
};
use tonic::Request;

use super::{Answer, Asked, Script};

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) creates: Asked<CreateSessionRequest, CreateSessionResponse>,
    pub(crate) keep_alives: Asked<KeepAliveRequest, KeepAliveResponse>,
    pub(crate) closes: Asked<CloseSessionRequest, CloseSessionResponse>,
    pub(crate) gets: Asked<GetSessionRequest, GetSessionResponse>,
}

#[tonic::async_trait]
impl SessionService for Script {
    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Answer<CreateSessionResponse> {
        self.state().sessions.creates.answer(request)
    }

    async fn keep_alive(&self, request: Request<KeepAliveRequest>) -> Answer<KeepAliveResponse> {
        self.state().sessions.keep_alives.answer(request)
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Answer<CloseSessionResponse> {
        self.state().sessions.closes.answer(request)
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Answer<GetSessionResponse> {
        self.state().sessions.gets.answer(request)
    }
}
