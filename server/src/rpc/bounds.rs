//! What the worker holds a request against, since only it knows the request's tokens.

use hangar_worker_protocol::v1::RequestBounds;
use tokio::time::Instant;

use crate::{lifecycle::Permit, wire};

/// The bounds of a request that `permit` lets through and whose caller waits until `deadline`.
pub(super) fn bounds(permit: &Permit, deadline: Option<Instant>) -> RequestBounds {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let fatal = permit.fatal_prompt();
    RequestBounds {
        time_left: left.and_then(wire::duration),
        fatal_prompt_tokens: fatal.map_or(0, |fatal| fatal.tokens),
        fatal_reason: fatal
            .map(|fatal| fatal.reason.name().to_owned())
            .unwrap_or_default(),
    }
}
