//! Keeps calls that rightly unload or change a model away from the watched ones.

use fastrand::Rng;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, Value};

use super::WATCHED;

/// Models that calls may do with as they like: few, so that not many are loaded at a time.
pub(super) const OTHERS: [&str; 3] = ["other-1", "other-2", "models/other-3"];

/// Beginnings of the names of methods that change models.
const CHANGES: [&str; 7] = [
    "Load",
    "Unload",
    "Switch",
    "Create",
    "Update",
    "Delete",
    "Repository",
];

/// Whether the method of this name changes models.
pub(super) fn changes(method: &str) -> bool {
    CHANGES.iter().any(|change| method.starts_with(change))
}

/// Whether a field of this name may name a model.
pub(super) fn is_name(field: &str) -> bool {
    matches!(
        field,
        "model_id"
            | "model_name"
            | "name"
            | "alias"
            | "aliases"
            | "target_model_id"
            | "service"
            | "model"
    )
}

/// Has `message` name other models than the watched ones, and not all.
pub(super) fn spare(rng: &mut Rng, message: &mut DynamicMessage) {
    let fields: Vec<_> = message.descriptor().fields().collect();
    for field in fields {
        if !message.has_field(&field) {
            continue;
        }
        if field.name() == "all" && matches!(field.kind(), Kind::Bool) {
            message.clear_field(&field);
            continue;
        }
        let names = is_name(field.name());
        spare_value(rng, message.get_field_mut(&field), names);
    }
}

fn spare_value(rng: &mut Rng, value: &mut Value, names: bool) {
    match value {
        Value::String(text) if WATCHED.contains(&text.trim()) || names && is_id(text) => {
            *text = OTHERS[rng.usize(..OTHERS.len())].to_owned();
        }
        Value::Message(message) => spare(rng, message),
        Value::List(values) => {
            for value in values {
                spare_value(rng, value, names);
            }
        }
        Value::Map(values) => {
            for (key, value) in values {
                let names = matches!(key, MapKey::String(key) if is_name(key));
                spare_value(rng, value, names);
            }
        }
        _ => {}
    }
}

/// Whether a model could have this id.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_graphic())
}
