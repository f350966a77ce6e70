//! Layers that look back only so far.
//!
//! The engine's mask for a prompt lets a token see one more than the window has, its cache afterwards does not: so
//! a prompt that is no longer than the window is right, and so is every token that follows by itself.

use serde_json::{Map, Value};

use super::{limits::Limits, refusal::refused};
use crate::failure::Failure;

const SLIDING: &str = "sliding_attention";

/// More tokens than a cache asks for at a time.
const SPARE_POSITIONS: u64 = 1024;

/// How an architecture of the engine computes windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowForm {
    /// The architecture has none.
    None,
    /// In all layers, of this width where the file does not say; right token by token.
    All(Option<u64>),
    /// As Qwen3: in the upper layers, if it is turned on; right token by token.
    Upper,
    /// As Qwen3's mixture: in all layers, if it is turned on; right token by token.
    Switched,
    /// As Gemma 3: in all layers but every so many; right token by token.
    Pattern,
    /// As Gemma 3 for embeddings: in all layers but every so many, to both sides. The engine takes the distance to each side,
    /// which the reference makes of the width: half of it and one.
    BothSides,
    /// No windows, but layers that keep no cache of tokens, all but every so many.
    Linear,
    /// No windows, but a cache that asks for more positions than the context has.
    Spacious,
    /// Not as the model has it: right as long as no sequence is longer than the window, of this width where the
    /// file does not say.
    Short(Option<u64>),
    /// The same, if it is turned on.
    SwitchedShort(Option<u64>),
}

/// Layers of a model that keep the last tokens only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::inspect) struct LayersInWindow {
    /// How many layers.
    pub(in crate::inspect) layers: u64,
    /// How many tokens.
    pub(in crate::inspect) width: u64,
}

/// Width of a window of Qwen's that is turned on, where the file does not say.
pub(super) const QWEN_WIDTH: Option<u64> = Some(4096);

impl WindowForm {
    /// Hands it to the engine in its own form.
    pub(super) fn write(
        self,
        given: &Map<String, Value>,
        architecture: &str,
        fields: &mut Map<String, Value>,
        limits: &mut Limits,
    ) -> Result<(), Failure> {
        let window = |default| given_width(given, default);
        let width = match self {
            Self::None => return Ok(()),
            Self::Spacious => {
                extend_context(fields, limits);
                return Ok(());
            }
            Self::Linear => {
                return pattern(
                    given,
                    ("linear_attention", "full_attention_interval", 4),
                    architecture,
                    fields,
                );
            }
            Self::All(default) | Self::Short(default) => window(default),
            Self::Upper | Self::Switched => window(QWEN_WIDTH).filter(|_| is_switched_on(given)),
            Self::SwitchedShort(default) => window(default).filter(|_| is_switched_on(given)),
            Self::Pattern => window(Some(4096)),
            Self::BothSides => window(Some(4096)).map(|width| width / 2 + 1),
        };
        if width == Some(0) {
            return Err(refused("sliding_window", &0.into(), architecture));
        }
        fields.insert("sliding_window".into(), width.into());
        let most = width.map(|width| u32::try_from(width).unwrap_or(u32::MAX));
        match self {
            Self::Short(_) | Self::SwitchedShort(_) => limits.max_sequence = most,
            Self::BothSides => {}
            _ => limits.max_prefill = most,
        }
        self.write_layers(given, architecture, fields, width.is_some())
    }

    /// Which layers keep the last tokens only, by the fields that the engine gets, and how many of them.
    pub(super) fn kept_in_window(self, fields: &Map<String, Value>) -> LayersInWindow {
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        let layers = number("num_hidden_layers").unwrap_or(0);
        let all_but_every = |field| match number(field).unwrap_or(0) {
            0 => 0,
            every => layers - layers / every,
        };
        let is_on = fields.get("use_sliding_window") == Some(&Value::Bool(true));
        let layers = match self {
            // Its other layers keep no cache of tokens.
            Self::Linear => all_but_every("full_attention_interval"),
            Self::All(_) => layers,
            Self::Switched if is_on => layers,
            Self::Upper if is_on => layers.saturating_sub(number("max_window_layers").unwrap_or(0)),
            Self::Pattern => all_but_every("sliding_window_pattern"),
            Self::Spacious => {
                let types = fields.get("layer_types").and_then(Value::as_array);
                let recurrent = types.into_iter().flatten().filter(|it| *it == "mamba");
                recurrent.count() as u64
            }
            _ => 0,
        };
        match (self, number("sliding_window")) {
            (Self::Linear | Self::Spacious, _) => LayersInWindow { layers, width: 0 },
            (_, Some(width)) => LayersInWindow { layers, width },
            (_, None) => LayersInWindow::default(),
        }
    }

    /// Which layers have the window.
    fn write_layers(
        self,
        given: &Map<String, Value>,
        architecture: &str,
        fields: &mut Map<String, Value>,
        has_window: bool,
    ) -> Result<(), Failure> {
        match self {
            Self::SwitchedShort(_) => {
                fields.insert("sliding_window".into(), Value::Null);
                Ok(())
            }
            Self::Upper => self.upper(given, architecture, fields, has_window),
            Self::Switched => {
                fields.insert("max_window_layers".into(), 0.into());
                fields.insert("use_sliding_window".into(), has_window.into());
                Ok(())
            }
            Self::Pattern | Self::BothSides => pattern(
                given,
                (SLIDING, "sliding_window_pattern", 6),
                architecture,
                fields,
            ),
            _ => Ok(()),
        }
    }

    fn upper(
        self,
        given: &Map<String, Value>,
        architecture: &str,
        fields: &mut Map<String, Value>,
        on: bool,
    ) -> Result<(), Failure> {
        let layers = fields.get("num_hidden_layers").and_then(Value::as_u64);
        let layers = layers.unwrap_or(0);
        let given_first = given.get("max_window_layers").and_then(Value::as_u64);
        let first = match marked(given, SLIDING, architecture)? {
            Some(listed) => {
                let first = listed.iter().take_while(|windowed| !**windowed).count();
                if listed[first..].iter().any(|windowed| !windowed) || (!on && first < listed.len())
                {
                    return Err(refused("layer_types", &given["layer_types"], architecture));
                }
                first as u64
            }
            None => given_first.unwrap_or(28).min(layers),
        };
        fields.insert("max_window_layers".into(), first.into());
        fields.insert("use_sliding_window".into(), on.into());
        Ok(())
    }
}

/// Width of the window, which the model may leave out.
fn given_width(given: &Map<String, Value>, default: Option<u64>) -> Option<u64> {
    match given.get("sliding_window") {
        Some(Value::Null) => None,
        other => other.and_then(Value::as_u64).or(default),
    }
}

fn is_switched_on(given: &Map<String, Value>) -> bool {
    given.get("use_sliding_window").and_then(Value::as_bool) == Some(true)
}

/// Gives the engine a longer context than the model has.
fn extend_context(fields: &mut Map<String, Value>, limits: &mut Limits) {
    const CONTEXT: &str = "max_position_embeddings";
    if let Some(longest) = fields.get(CONTEXT).and_then(Value::as_u64) {
        limits.max_sequence = u32::try_from(longest).ok();
        fields.insert(
            CONTEXT.into(),
            longest.saturating_add(SPARE_POSITIONS).into(),
        );
    }
}

/// For each layer that is listed, whether it is of this kind, and not one that sees everything.
fn marked(
    given: &Map<String, Value>,
    kind: &str,
    architecture: &str,
) -> Result<Option<Vec<bool>>, Failure> {
    let Some(types) = given.get("layer_types").filter(|types| !types.is_null()) else {
        return Ok(None);
    };
    let mark = |name: &Value| match name.as_str() {
        Some("full_attention") => Some(false),
        Some(name) if name == kind => Some(true),
        _ => None,
    };
    let listed: Option<Vec<bool>> = types
        .as_array()
        .and_then(|types| types.iter().map(mark).collect());
    match listed {
        Some(listed) => Ok(Some(listed)),
        None => Err(refused("layer_types", types, architecture)),
    }
}

/// The engine makes each layer but every so many one of this kind; the field says how many.
fn pattern(
    given: &Map<String, Value>,
    (kind, field, default): (&str, &str, u64),
    architecture: &str,
    fields: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let every = match marked(given, kind, architecture)? {
        Some(listed) => {
            let every = listed.iter().take_while(|marked| **marked).count() + 1;
            let expected = (1..=listed.len()).map(|layer| !layer.is_multiple_of(every));
            if !expected.eq(listed.iter().copied()) {
                return Err(refused("layer_types", &given["layer_types"], architecture));
            }
            every as u64
        }
        None => {
            let given = given.get(field).or_else(|| given.get(&format!("_{field}")));
            let given = given.and_then(Value::as_u64);
            given.filter(|every| *every > 0).unwrap_or(default)
        }
    };
    fields.insert(field.into(), every.into());
    Ok(())
}
