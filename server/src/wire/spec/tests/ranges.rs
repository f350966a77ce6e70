//! Whatever of a spec is a number has a range.

use std::collections::BTreeMap;

use prost_reflect::{ReflectMessage, Value};

use super::{limits::refused, *};

/// Numbers of which any will do.
const ANY: [&str; 5] = [
    "context_length",
    "generation_defaults.max_tokens",
    "generation_defaults.sampling.top_k",
    "memory_hint.device_bytes",
    "memory_hint.host_bytes",
];

/// What a length of time is more exact by, within its range.
const NANOS: &str = "google.protobuf.Duration.nanos";

/// The ends of what a number can be at all. None: it is no number.
fn ends(value: &Value) -> Vec<Value> {
    match value {
        Value::I32(_) => [i32::MIN, i32::MAX].map(Value::I32).into(),
        Value::I64(_) => [i64::MIN, i64::MAX].map(Value::I64).into(),
        Value::U32(_) => [0, u32::MAX].map(Value::U32).into(),
        Value::U64(_) => [0, u64::MAX].map(Value::U64).into(),
        Value::F32(_) => [f32::NAN, f32::INFINITY].map(Value::F32).into(),
        Value::F64(_) => [f64::NAN, f64::INFINITY].map(Value::F64).into(),
        Value::EnumNumber(_) => vec![Value::EnumNumber(i32::MAX)],
        _ => Vec::new(),
    }
}

/// The value, which is at the path `at`, with one number at a time at an end, by its path.
fn at_ends(value: &Value, at: &str) -> Vec<(String, Value)> {
    let mut changed = Vec::new();
    match value {
        Value::Message(message) => {
            let fields = message.descriptor();
            for field in fields.fields().filter(|it| it.full_name() != NANOS) {
                let at = format!("{at}.{}", field.name());
                for (at, value) in at_ends(&message.get_field(&field), &at) {
                    let mut message = message.clone();
                    message.set_field(&field, value);
                    changed.push((at, Value::Message(message)));
                }
            }
        }
        Value::List(values) => {
            let entries = values.first().map(|entry| at_ends(entry, at));
            let entries = entries.into_iter().flatten();
            changed.extend(entries.map(|(at, entry)| (at, Value::List(vec![entry]))));
        }
        value => changed.extend(ends(value).into_iter().map(|end| (at.to_owned(), end))),
    }
    changed
}

#[bounded::test]
fn whatever_is_a_number_has_a_range_or_is_known_to_have_none() {
    let mut has_range = BTreeMap::new();
    for (path, value) in at_ends(&Value::Message(dynamic(&full())), "") {
        let path = path.trim_start_matches('.').to_owned();
        let spec = value.as_message().expect("a spec");
        // A length of time is refused as a whole.
        let is_refused = refused(spec).iter().any(|field| path.starts_with(field));
        *has_range.entry(path).or_insert(false) |= is_refused;
    }
    assert!(has_range.len() > 20, "{has_range:?}");
    let without = has_range.iter().filter(|(_, has_one)| !**has_one);
    let without: Vec<_> = without.map(|(path, _)| path.as_str()).collect();
    assert_eq!(without, ANY, "a range, or a place in the list");
}
