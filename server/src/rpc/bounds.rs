//! What the worker holds a request against, since only it knows the request's tokens.

use tokio::time::Instant;

use crate::{lifecycle::Permit, worker::RequestBounds};

/// The bounds of a request that `permit` lets through and whose caller waits until `deadline`.
pub(super) fn bounds(permit: &Permit, deadline: Option<Instant>) -> RequestBounds {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let fatal = permit.fatal_prompt();
    RequestBounds {
        time_left: left,
        fatal_prompt: fatal.map(|fatal| (fatal.tokens, fatal.reason)),
    }
}
