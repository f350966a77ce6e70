//! What a caller can do about an error, in words.

use crate::v1::ErrorReason;

/// What to do about `reason`, where the server's message does not tell by itself.
pub(super) fn advice(reason: ErrorReason) -> Option<&'static str> {
    Some(match reason {
        ErrorReason::ModelRequired | ErrorReason::ModelHeld => {
            "Unload it with force if that is meant"
        }
        ErrorReason::InsufficientMemory => {
            "Unload another model first, or take a smaller data type or context"
        }
        ErrorReason::LoadTimeout => "Give the load more time",
        ErrorReason::WorkerDied | ErrorReason::WorkerHung => {
            "The server's log has the worker's last words"
        }
        ErrorReason::HubDenied => "Check that the server's token may read the repository",
        _ => return None,
    })
}
