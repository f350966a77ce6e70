//! Fields of a config.json, of which some models have one in its text half only.

use serde_json::{Map, Value};

/// What a config.json says in this field: as a whole first, and then in its text half.
pub(super) fn values<'a>(
    config: &'a Map<String, Value>,
    name: &'a str,
) -> impl Iterator<Item = &'a Value> {
    let text = config.get("text_config").and_then(Value::as_object);
    let both = [Some(config), text].into_iter().flatten();
    both.filter_map(move |fields| fields.get(name))
}
