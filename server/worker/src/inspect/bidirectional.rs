//! The window of a Gemma embedding model's attention: config.json is changed so that the engine takes it as the reference
//! does.
//!
//! In each layer but every sixth or so a token sees a window of its neighbours only. The file gives the width of the
//! window; the transformers library makes a distance of it when it reads the file (half of the width, and one,
//! exclusive), which the engine does not: it takes the width for the distance. And the engine goes by the
//! pattern alone where the file lists the layers.

use serde_json::{Map, Value};

use crate::failure::Failure;

/// Layers between two that see everything, and that one, where the file does not say.
const PATTERN: u64 = 6;

/// How the attention is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bidirectional {
    on: bool,
    pattern: Option<u64>,
    /// For each layer that is listed, whether it has a window; `None` for a kind that is not known.
    layers: Option<Vec<Option<bool>>>,
}

impl Bidirectional {
    /// Reads it by way of the file's fields.
    pub(super) fn of<'a>(field: &impl Fn(&str) -> Option<&'a Value>) -> Self {
        let windowed = |layer: &Value| match layer.as_str() {
            Some("sliding_attention") => Some(true),
            Some("full_attention") => Some(false),
            _ => None,
        };
        let layers = field("layer_types").and_then(Value::as_array);
        Self {
            on: field("use_bidirectional_attention") == Some(&Value::Bool(true)),
            pattern: field("sliding_window_pattern").and_then(Value::as_u64),
            layers: layers.map(|layers| layers.iter().map(windowed).collect()),
        }
    }

    /// Checks that the engine has such an attention in these layers.
    pub(super) fn check(&self, layers: u64) -> Result<(), Failure> {
        if !self.on {
            return Err(Failure::unusable(
                "config.json does not set use_bidirectional_attention, without which a Gemma model is none for \
                 embeddings. Get the config.json that belongs to the model.",
            ));
        }
        let pattern = self.pattern.unwrap_or(PATTERN);
        let by_pattern = |layer: u64| Some(!(layer + 1).is_multiple_of(pattern));
        let listed = self.layers.as_ref();
        let same =
            listed.is_none_or(|listed| listed.iter().copied().eq((0..layers).map(by_pattern)));
        if pattern > 0 && same {
            return Ok(());
        }
        Err(Failure::unusable(format!(
            "The engine gives each layer but every {pattern}th a window, and config.json lists its layer_types \
             otherwise. Load a model whose layers follow the pattern, or set sliding_window_pattern to it."
        )))
    }
}

/// Makes a distance of the width of a window to both sides, which the engine takes for one.
pub(super) fn narrow(config: &mut Map<String, Value>) {
    if config.get("use_bidirectional_attention") != Some(&Value::Bool(true)) {
        return;
    }
    if let Some(width) = config.get("sliding_window").and_then(Value::as_u64) {
        config.insert("sliding_window".into(), (width / 2 + 1).into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_window_to_both_sides_is_half_as_wide_on_each() {
        let narrowed = |fields: Value| {
            let mut fields = fields.as_object().cloned().unwrap_or_default();
            narrow(&mut fields);
            fields.get("sliding_window").cloned()
        };
        let both = json!({"use_bidirectional_attention": true, "sliding_window": 512});
        assert_eq!(narrowed(both), Some(json!(257)));
        assert_eq!(narrowed(json!({"sliding_window": 512})), Some(json!(512)));
        assert_eq!(narrowed(json!({"use_bidirectional_attention": true})), None);
    }

    fn check(fields: Value, layers: u64) -> Result<(), Failure> {
        Bidirectional::of(&|name| fields.get(name)).check(layers)
    }

    #[test]
    fn listed_layers_have_to_follow_the_pattern() {
        let (slides, full) = ("sliding_attention", "full_attention");
        let fields = |pattern: Value, layers: Value| {
            json!({
                "use_bidirectional_attention": true,
                "sliding_window_pattern": pattern,
                "layer_types": layers,
            })
        };
        let all = json!(null);
        assert!(check(fields(all.clone(), all.clone()), 24).is_ok());
        assert!(check(fields(json!(2), json!([slides, full])), 2).is_ok());
        assert!(check(fields(all.clone(), json!([slides, slides])), 2).is_ok());
        assert!(check(fields(all.clone(), json!([slides, full])), 2).is_err());
        assert!(check(fields(json!(2), json!([slides, full])), 3).is_err());
        assert!(check(fields(json!(2), json!([slides, "other"])), 2).is_err());
        assert!(check(fields(json!(0), all), 2).is_err());
    }

    #[test]
    fn an_attention_to_one_side_is_refused() {
        assert!(check(json!({}), 2).is_err());
        assert!(check(json!({"use_bidirectional_attention": false}), 2).is_err());
    }
}
