//! Which build this is.

/// Version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit that the binary was built from; empty when built outside a checkout.
pub const COMMIT: &str = env!("HANGAR_COMMIT");
/// Version with the commit, for people.
pub const LONG_VERSION: &str = env!("HANGAR_VERSION");
