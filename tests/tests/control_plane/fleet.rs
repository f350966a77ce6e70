//! Many models: `all` of them, those that requests load, and their queue.

mod load_all;
mod on_demand;
mod on_demand_limits;
mod queue;
mod unload_all;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, LoadModelRequest, ModelState, load_model_request::Target};
use hangar_tests::server::TestServer;
use prost::Message;
use tonic::Code;
use tonic_types::StatusExt;

/// Loads all models and waits for each.
fn all() -> LoadModelRequest {
    LoadModelRequest {
        target: Some(Target::All(true)),
        wait: true,
        ..LoadModelRequest::default()
    }
}

/// Makes sure that an item of an answer failed in this way, with all details that the call itself would
/// have failed with.
#[track_caller]
fn assert_failed(
    error: Option<&tonic_types::Status>,
    code: Code,
    reason: ErrorReason,
) -> tonic::Status {
    let error = error.cloned().unwrap_or_default();
    let details = error.encode_to_vec().into();
    let status = tonic::Status::with_details(Code::from_i32(error.code), error.message, details);
    let Some(info) = status.get_details_error_info() else {
        panic!("there is no reason: {status:?}");
    };
    let named = format!("ERROR_REASON_{}", info.reason);
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(named, reason.as_str_name(), "{status:?}");
    assert_eq!(info.domain, "hangar.v1");
    hangar_tests::refusals::assert_is_for_people(status.message());
    status
}

async fn state(server: &TestServer, model_id: &str) -> Result<ModelState> {
    let info = server.stubs.info(model_id).await?;
    Ok(info.status.context("a status")?.state())
}
