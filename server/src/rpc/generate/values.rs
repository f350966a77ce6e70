//! Values of any form in requests.

use prost_types::{Value, value::Kind};

/// Whether a value has a form in JSON and is nested at most `depth` deep.
pub(super) fn is_plain(value: &Value, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    match &value.kind {
        Some(Kind::NumberValue(number)) => number.is_finite(),
        Some(Kind::ListValue(list)) => list.values.iter().all(|value| is_plain(value, depth)),
        Some(Kind::StructValue(fields)) => {
            fields.fields.values().all(|value| is_plain(value, depth))
        }
        _ => true,
    }
}
