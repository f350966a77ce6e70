//! What a driver is to do about a load.

use std::time::Duration;

use crate::catalog::Attempt;

/// What a driver is to do about a load.
#[derive(Clone, Debug)]
pub(in crate::lifecycle) struct LoadOrder {
    pub(in crate::lifecycle) force: bool,
    pub(in crate::lifecycle) timeout: Duration,
    pub(in crate::lifecycle) may_evict: bool,
    /// What ended earlier workers may be tried again.
    pub(in crate::lifecycle) forgive: bool,
    /// The server died in this attempt, which counts.
    pub(in crate::lifecycle) crashed: Option<Attempt>,
}

impl LoadOrder {
    /// A load that nobody but the server asks for.
    pub(in crate::lifecycle) fn by_the_server(timeout: Duration) -> Self {
        Self {
            force: false,
            timeout,
            may_evict: false,
            forgive: false,
            crashed: None,
        }
    }
}
