//! Values that the public API and the workers' protocol share, from and to the types of [`crate::model`]:
//! `read_*` takes a message, `*_message` makes one.

mod kinds;
mod sampling;
mod spec;
mod violations;

use std::time::Duration;

pub use kinds::{dtype_message, format_message, kind_message, read_dtype, read_format, read_kind};
pub use sampling::sampling_message;
pub use spec::{read_spec, spec_message};
pub use violations::{InvalidFields, MAX_REQUEST_ID, Violations};

/// A length of time; `None` where the message cannot express it.
pub fn duration_message(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

/// A value as it is written; empty where none is given.
pub fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// A number for which zero says that it is not given.
pub fn non_zero(value: u32) -> Option<u32> {
    (value != 0).then_some(value)
}
