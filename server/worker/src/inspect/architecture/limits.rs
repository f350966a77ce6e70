//! Up to where the engine computes what a model says.

/// Lengths up to which the engine computes what the model says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Longest sequence.
    pub(crate) sequence: Option<u32>,
    /// Longest prompt that is right when it is computed at once; further tokens have to be given one by one.
    pub(crate) at_once: Option<u32>,
    /// A sequence that begins below this length must not grow beyond it.
    pub(crate) switch: Option<u32>,
}
