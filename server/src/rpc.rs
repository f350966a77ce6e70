//! The public API over gRPC: the only module that knows `tonic::Status`.

mod bounds;
mod broken_call;
mod catalog_service;
mod convert;
pub mod deadline;
mod declared;
mod detached_calls;
mod embed;
mod encoded;
mod encoded_route;
mod error;
mod generate;
mod guarded_body;
pub mod health;
mod inference_service;
mod info;
pub mod metadata_limit;
mod model_service;
mod open_inference;
pub mod reflection;
mod request_ids;
pub mod request_memory;
mod session_service;
pub mod unwinding;
mod validate;
mod watch;

pub use catalog_service::CatalogApi;
pub use declared::declared;
pub use encoded_route::{GenerateRoute, WatchRoute};
pub use error::completed;
pub use inference_service::InferenceApi;
pub use model_service::{ModelApi, ModelApiOptions};
pub use open_inference::OpenInferenceApi;
pub use session_service::SessionApi;

/// Bytes of all models in one answer, as far as one is not longer: what any client takes.
const MAX_MODELS_BYTES: usize = 3 << 20;
