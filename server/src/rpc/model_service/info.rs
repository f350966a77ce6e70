//! GetInfo.

use hangar_client::v1::{GetInfoRequest, GetInfoResponse};

use super::ModelHandlers;
use crate::rpc::{error::ApiError, info::Sources};

impl ModelHandlers {
    pub(super) async fn info(&self, request: &GetInfoRequest) -> Result<GetInfoResponse, ApiError> {
        let sources = Sources {
            fleet: &self.fleet,
            event_log: &self.event_log,
            system: &self.system,
            started: self.started,
        };
        sources.response(request).await
    }
}
