//! Values of a request as JSON, for templates and schemas.

use prost_types::{Struct, value::Kind};
use serde_json::{Map, Value};

/// The fields as JSON, each of them nested at most `depth` deep; `None` if one is deeper.
pub(super) fn json_object(fields: &Struct, depth: usize) -> Option<Map<String, Value>> {
    let fields = fields.fields.iter();
    fields
        .map(|(name, value)| Some((name.clone(), json(value, depth)?)))
        .collect()
}

/// The JSON object that a text is. Keys and numbers stay as they are.
pub(super) fn json_object_of_text(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|e| format!("is no JSON object: {e}"))
}

/// The value as JSON, where whole numbers are integers; `None` if it is nested too deeply.
fn json(value: &prost_types::Value, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    Some(match value.kind.as_ref() {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::StringValue(value)) => value.clone().into(),
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() < 9e15 => {
            (*value as i64).into()
        }
        Some(Kind::NumberValue(value)) => (*value).into(),
        Some(Kind::ListValue(list)) => {
            let values: Option<Vec<_>> = list.values.iter().map(|v| json(v, depth)).collect();
            values?.into()
        }
        Some(Kind::StructValue(fields)) => json_object(fields, depth)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use prost_types::ListValue;

    use super::*;

    #[bounded::test]
    fn options_become_json_with_whole_numbers() {
        let kind = |kind| prost_types::Value { kind: Some(kind) };
        let list = Kind::ListValue(ListValue {
            values: vec![kind(Kind::NumberValue(3.0)), kind(Kind::NumberValue(0.5))],
        });
        let fields = Struct {
            fields: [("a".to_owned(), kind(list))].into(),
        };
        let value = kind(Kind::StructValue(fields));
        assert_eq!(json(&value, 3), Some(serde_json::json!({"a": [3, 0.5]})));
        assert_eq!(json(&value, 2), None);
    }
}
