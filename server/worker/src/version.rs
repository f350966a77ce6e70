//! Version of the engine that is built in.

/// Version of mistral.rs. It is a part of the names of prepared weights: what another one wrote is not read.
pub(crate) const ENGINE_VERSION: &str = "0.8.1";
