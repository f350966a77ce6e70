//! The public API over gRPC: the only room that knows `tonic::Status`.

pub mod deadline;
mod error;
mod generate;
pub mod health;
mod inference_service;
mod info;
mod model_service;
pub mod reflection;
mod request_ids;
mod shared_stream;
mod validate;
mod watch;

pub use error::ApiError;
pub use inference_service::InferenceApi;
pub use model_service::{ModelApi, ModelApiOptions};
pub use shared_stream::WatchRoute;
