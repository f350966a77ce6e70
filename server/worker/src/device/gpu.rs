//! The GPU of a worker.

/// What is known of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// Its UUID as the driver's tools print it.
    pub(crate) uuid: String,
    /// Compute capability, major and minor.
    pub(crate) capability: (u32, u32),
    /// All of its memory in bytes.
    pub(crate) memory: u64,
}
