//! SessionService: models that are held for as long as a client lives.

use std::{sync::Arc, time::Duration};

use hangar_client::v1::{
    self, CloseSessionRequest, CloseSessionResponse, CreateSessionRequest, CreateSessionResponse,
    GetSessionRequest, GetSessionResponse, KeepAliveRequest, KeepAliveResponse,
    session_service_server::SessionService,
};
use tonic::{Request, Response, Status};

use super::{error::ApiError, validate::Violations};
use crate::{
    lifecycle::{Fleet, HoldSession, Holder, SessionId},
    wire,
};

/// Implements SessionService.
#[derive(Clone)]
pub struct SessionApi {
    fleet: Arc<Fleet>,
}

/// Time to live of a session whose request does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// Shortest and longest time to live.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// Longest display name, in bytes.
const MAX_DISPLAY_NAME: usize = 63;

impl SessionApi {
    /// Keeps the sessions of `fleet`.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet }
    }
}

#[tonic::async_trait]
impl SessionService for SessionApi {
    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        let mut violations = Violations::default();
        let CreateSessionRequest { ttl, display_name } = request.into_inner();
        let ttl = violations.duration_within("ttl", ttl, MIN_TTL, MAX_TTL);
        violations.check(
            is_display_name(&display_name),
            "display_name",
            "has at most 63 letters, digits and ._-",
        );
        violations.finish().map_err(ApiError::from)?;
        if self.fleet.is_closing() {
            return Err(ApiError::ShuttingDown.into());
        }
        let session = self
            .fleet
            .open_session(ttl.unwrap_or(DEFAULT_TTL), &display_name);
        Ok(Response::new(CreateSessionResponse {
            session: Some(message(session.map_err(ApiError::from)?)),
        }))
    }

    async fn keep_alive(
        &self,
        request: Request<KeepAliveRequest>,
    ) -> Result<Response<KeepAliveResponse>, Status> {
        let id = parse_session_id(request.into_inner().session_id)?;
        let session = self.fleet.keep_session_alive(&id);
        Ok(Response::new(KeepAliveResponse {
            session: Some(message(session.map_err(ApiError::from)?)),
        }))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        let id = parse_session_id(request.into_inner().session_id)?;
        let unloading = self.fleet.close_session(&id).map_err(ApiError::from)?;
        Ok(Response::new(CloseSessionResponse {
            unloading_model_ids: unloading.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn get_session(
        &self,
        request: Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        let id = parse_session_id(request.into_inner().session_id)?;
        let session = self.fleet.session(&id).map_err(ApiError::from)?;
        Ok(Response::new(GetSessionResponse {
            session: Some(message(session)),
        }))
    }
}

fn parse_session_id(id: String) -> Result<SessionId, ApiError> {
    if id.is_empty() {
        return Err(ApiError::invalid("session_id", "is required"));
    }
    Ok(id.into())
}

fn is_display_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= MAX_DISPLAY_NAME && name.bytes().all(plain)
}

fn message(session: HoldSession) -> v1::Session {
    v1::Session {
        session_id: session.id.reveal().to_owned(),
        holder: Holder::Session(session.name).to_string(),
        ttl: wire::duration_message(session.ttl),
        create_time: Some(session.created.into()),
        expire_time: Some(session.expires.into()),
        model_ids: session.models.iter().map(ToString::to_string).collect(),
    }
}
