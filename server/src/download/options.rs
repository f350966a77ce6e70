//! How a hub is used.

use std::{path::PathBuf, time::Duration};

use super::{HubToken, Repositories};

/// How the hub is used.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub struct HubOptions {
    /// The hub's URL, without a slash at its end.
    pub endpoint: String,
    /// What the hub knows this server by.
    pub token: Option<HubToken>,
    /// Whether only what is in the cache is used.
    pub offline: bool,
    /// Directory of the downloaded files.
    pub cache_dir: PathBuf,
    /// Repositories that may be loaded.
    pub repositories: Repositories,
    /// A download that gets no byte for this long fails.
    pub stall_timeout: Duration,
}
