//! Why a server did not start.

use std::{io, net::SocketAddr};

use crate::{
    catalog::{OpenCatalogError, StorageError},
    config::ConfigError,
    lifecycle::{DeclarationError, SourceError},
};

/// A server that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A model root cannot be used.
    #[error(transparent)]
    ModelRoot(#[from] SourceError),
    /// The catalog cannot be used.
    #[error(transparent)]
    Catalog(#[from] OpenCatalogError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A declared model cannot be taken over.
    #[error(transparent)]
    Declaration(#[from] DeclarationError),
    /// Another server uses a directory.
    #[error("{directory} is in use by another hangar; stop that one or give another {flag}")]
    Locked {
        /// The directory.
        directory: String,
        /// What names it.
        flag: &'static str,
    },
    /// A port cannot be bound.
    #[error("cannot listen on {address}: {cause}; stop what listens there or give another address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// The task that starts the server panicked.
    #[error("the start panicked; the log has where")]
    Lost,
    /// Something else that the server needs of the system.
    #[error("{what}: {cause}")]
    System {
        /// What failed.
        what: &'static str,
        /// What the system says.
        cause: io::Error,
    },
}

pub(super) fn system_error(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |cause| StartError::System { what, cause }
}
