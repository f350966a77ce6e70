//! Up to where the engine computes what a model says.

/// Lengths up to which the engine computes what the model says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Longest sequence.
    pub(crate) max_sequence: Option<u32>,
    /// Longest prompt that is right when it is computed at once; further tokens have to be given one by one.
    pub(crate) max_prefill: Option<u32>,
    /// Beyond this length positions are rotated by other factors, which the engine chooses once for a prompt: a sequence
    /// whose prompt is no longer must not grow beyond it.
    pub(crate) rope_switch: Option<u32>,
}
