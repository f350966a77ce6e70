//! What a worker finds in its model's files.

use crate::model::ModelMetadata;

/// What the headers of a model's files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inspection {
    /// As far as known before the load.
    pub metadata: ModelMetadata,
    /// Bytes of files that the load reads; the total of its progress.
    pub weight_bytes: u64,
    /// How these bytes are observed; `None`: they cannot be.
    pub progress_measure: Option<ProgressMeasure>,
    /// Host memory that the model is expected to need, in bytes.
    pub need_host_bytes: u64,
    /// The same with room for the longest sequence, in bytes.
    pub roomy_host_bytes: u64,
    /// Device memory that the model is expected to need, in bytes.
    pub need_device_bytes: u64,
    /// Requests that the engine can run at the same time, at least 1.
    pub max_concurrency: u32,
    /// Entry of prepared weights that the load reads or that is to be made; `None`: it asks for none.
    pub prepared_key: Option<String>,
}

/// How the bytes that a load has read are observed from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMeasure {
    /// Files are mapped: the pages of files that the process has resident.
    RssFile,
    /// Files are read: the characters that the process has read.
    ReadChars,
}
