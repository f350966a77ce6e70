//! Whatever of a spec can be long has a limit.

use std::collections::{BTreeSet, HashMap};

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use super::*;

/// Bytes of a text that are more than any of them may have.
const TOO_LONG: usize = 1 << 20;

/// Entries of a list that are more than any of them may have.
const TOO_MANY: usize = 1 << 12;

/// A text that is wrong by nothing but its length.
fn long(text: &str) -> String {
    let begin = if text.is_empty() { "/" } else { text };
    format!("{begin}{}", "x".repeat(TOO_LONG))
}

/// What can be too long of a single value, at the path `at`.
fn long_values(value: &Value, at: &str) -> Vec<(String, Value)> {
    match value {
        Value::String(text) => vec![(at.to_owned(), Value::String(long(text)))],
        Value::Bytes(_) => vec![(at.to_owned(), Value::Bytes(vec![0; TOO_LONG].into()))],
        Value::Message(message) => long_messages(message, at)
            .into_iter()
            .map(|(at, message)| (at, Value::Message(message)))
            .collect(),
        _ => Vec::new(),
    }
}

/// What can be too long of a field.
fn long_fields(field: &FieldDescriptor, value: &Value, at: &str) -> Vec<(String, Value)> {
    let one = |value| Value::List(vec![value]);
    match (value, field.kind()) {
        (Value::List(all), kind) => {
            let entry = all.first().cloned();
            let entry = entry.unwrap_or_else(|| Value::default_value(&kind));
            let mut long: Vec<_> = long_values(&entry, at)
                .into_iter()
                .map(|(at, entry)| (at, one(entry)))
                .collect();
            long.push((at.to_owned(), Value::List(vec![entry; TOO_MANY])));
            long
        }
        (Value::Map(_), Kind::Message(entry)) => {
            let value = Value::default_value_for_field(&entry.map_entry_value_field());
            let of = |key: String, value| Value::Map([(MapKey::String(key), value)].into());
            let many: HashMap<_, _> = (0..TOO_MANY)
                .map(|n| (MapKey::String(n.to_string()), value.clone()))
                .collect();
            let mut long = vec![
                (at.to_owned(), of(long("a"), value.clone())),
                (at.to_owned(), Value::Map(many)),
            ];
            let values = long_values(&value, at).into_iter();
            long.extend(values.map(|(at, value)| (at, of("a".to_owned(), value))));
            long
        }
        (value, _) => long_values(value, at),
    }
}

/// The message with one thing at a time too long, by its path.
fn long_messages(message: &DynamicMessage, at: &str) -> Vec<(String, DynamicMessage)> {
    let mut long = Vec::new();
    for field in message.descriptor().fields() {
        let at = match at {
            "" => field.name().to_owned(),
            at => format!("{at}.{}", field.name()),
        };
        for (at, value) in long_fields(&field, &message.get_field(&field), &at) {
            let mut message = message.clone();
            message.set_field(&field, value);
            long.push((at, message));
        }
    }
    long
}

/// Fields that are refused of a spec, without the places in lists.
pub(super) fn refused(spec: &DynamicMessage) -> BTreeSet<String> {
    let spec = v1::ModelSpec::decode(&*spec.encode_to_vec()).expect("a spec");
    let mut violations = Violations::default();
    read_spec(&spec, "spec", &mut violations);
    let fields = violations.all().into_iter().map(|(field, _)| field);
    fields
        .map(|field| {
            let parts = field.split(['[', ']']).step_by(2);
            let path: String = parts.collect();
            path.trim_start_matches("spec.").to_owned()
        })
        .collect()
}

#[bounded::test]
fn whatever_can_be_long_is_refused_when_it_is() {
    let spec = dynamic(&full());
    assert!(refused(&spec).is_empty());
    let long = long_messages(&spec, "");
    assert!(long.len() > 20, "{}", long.len());
    for (path, spec) in long {
        let refused = refused(&spec);
        assert!(refused.contains(&path), "{path} has no limit: {refused:?}");
    }
}
