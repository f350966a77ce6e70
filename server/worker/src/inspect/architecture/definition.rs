//! What is known about an architecture.

use super::{
    field::{Field, FieldConstraint},
    rope::RopeForm,
    tensors::{Naming, Tensors},
    window::WindowForm,
};

/// What is known about an architecture.
pub(in crate::inspect) struct Architecture {
    /// Its name in config.json.
    pub(in crate::inspect) name: &'static str,
    /// Fields that the engine reads as well.
    pub(super) fields: &'static [&'static [Field]],
    /// Fields that the engine does not read, with the values at which it computes what they say.
    pub(super) fixed: &'static [FieldConstraint],
    pub(super) rope: RopeForm,
    /// Base of the rotations where the file does not say.
    pub(super) theta: f64,
    /// Share of a head that is rotated where the file does not say; `None` where that is no matter of the file.
    pub(super) rotated: Option<f64>,
    pub(super) window: WindowForm,
    pub(super) tensors: Tensors,
    pub(super) naming: Naming,
    /// What the engine does otherwise than the reference, whatever the fields say: such models are refused.
    pub(in crate::inspect) wrong: Option<&'static str>,
}
