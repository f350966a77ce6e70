//! Values that the public API and the workers' protocol share, from and to the types of [`crate::model`].

mod kinds;
mod sampling;
mod spec;
mod violations;

use std::time::Duration;

pub use kinds::{dtype, dtype_of, format, format_of, kind, kind_of};
pub use sampling::sampling;
pub use spec::{spec, spec_of};
pub use violations::{InvalidFields, MAX_REQUEST_ID, Violations};

/// A length of time; `None` where the message cannot express it.
pub fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

/// A number for which zero says that it is not given.
pub fn non_zero(value: u32) -> Option<u32> {
    (value != 0).then_some(value)
}
