//! What a worker is to host, and how.

use std::{path::PathBuf, sync::Arc};

use crate::{
    model::{DeviceName, ModelId, Spec},
    prepared::PreparedAccess,
};

/// What a worker is to host, and how.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The model, for logs and traces.
    pub model: ModelId,
    /// Its spec, with the paths of its tokenizer and its adapters resolved.
    pub spec: Spec,
    /// Where its files are.
    pub files: ModelFiles,
    /// Its device, as the worker sees it.
    pub device: DeviceName,
    /// Requests that run at the same time, at least 1.
    pub max_concurrency: u32,
    /// Socket to listen on.
    pub socket: PathBuf,
    /// The cache of prepared weights, for a model that can make use of it.
    pub prepared: Option<PreparedAccess>,
    /// What all workers get.
    pub common: Arc<CommonConfig>,
}

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// A directory or a GGUF file, with all links resolved.
    Path(PathBuf),
    /// In the worker.
    Demo,
}

/// What all workers of a server get.
#[derive(Clone, Debug, Default)]
pub struct CommonConfig {
    /// Directory where they may write files.
    pub cache_dir: PathBuf,
    /// OTLP endpoint for traces.
    pub otlp_endpoint: Option<String>,
    /// Filter of their logs, in the syntax of tracing's EnvFilter.
    pub log_filter: String,
    /// Share of traces that is recorded when the caller has not decided, from 0 to 1.
    pub trace_sample_ratio: f64,
}
