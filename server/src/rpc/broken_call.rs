//! Why a call to a worker broke off.

use std::{error::Error, time::Duration};

use hangar_client::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::error::ApiError;
use crate::lifecycle::Permit;

/// Time that the end of a worker's connection may be ahead of its cause.
const MAX_CAUSE_DELAY: Duration = Duration::from_secs(5);

/// Time that a worker's bare error may be ahead of the report that the worker has ended.
const MAX_EXIT_DELAY: Duration = Duration::from_millis(500);

/// What a caller hears when a call to the worker failed: the error that the worker gave, if it gave one,
/// else why its connection went.
pub(super) async fn explain(status: Status, permit: &mut Permit) -> Status {
    let explained = status
        .get_details_error_info()
        .is_some_and(|info| info.domain == ERROR_DOMAIN);
    if explained && permit.failure().is_none() {
        return match status.code() {
            Code::Internal => ApiError::Internal(status.message().to_owned()).into(),
            _ => status,
        };
    }
    // What has no cause on this side was reported by the worker, without a reason.
    let reported = status.source().is_none()
        && matches!(
            status.code(),
            Code::Internal | Code::OutOfRange | Code::ResourceExhausted | Code::Unimplemented
        );
    let delay = if reported {
        MAX_EXIT_DELAY
    } else {
        MAX_CAUSE_DELAY
    };
    match tokio::time::timeout(delay, permit.cut_off()).await {
        Ok(failure) => ApiError::Failed(failure),
        Err(_) if reported => ApiError::Internal(status.message().to_owned()),
        Err(_) => ApiError::CallBroken,
    }
    .into()
}
