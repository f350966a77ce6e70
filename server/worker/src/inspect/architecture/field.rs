//! Fields of a config.json.

use serde_json::{Map, Value, json};

use super::refusal::{beginning, refused};
use crate::failure::Failure;

/// Activations by their names in the reference, and in the engine.
const ACTIVATIONS: [(&str, &str); 12] = [
    ("gelu", "gelu"),
    ("gelu_new", "gelu_new"),
    ("gelu_fast", "gelu_pytorch_tanh"),
    ("gelu_pytorch_tanh", "gelu_pytorch_tanh"),
    ("gelu_accurate", "gelu_pytorch_tanh"),
    ("silu", "silu"),
    ("swish", "silu"),
    ("relu", "relu"),
    ("relu2", "relu2"),
    ("relu6", "relu6"),
    ("sigmoid", "sigmoid"),
    ("quick_gelu", "quickgelu"),
];

/// A field that the engine reads as well.
pub(in crate::inspect) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// Another name of it in the reference.
    pub(super) alias: Option<&'static str>,
    kind: FieldKind,
    default: Default,
}

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    Count,
    Number,
    Flag,
    Activation,
    Counts,
    Text,
    Layers,
}

/// What a field is that is not there.
#[derive(Clone, Copy)]
pub(super) enum Default {
    /// It has to be there.
    Needed,
    /// It is left out, and may be null.
    Null,
    /// That many.
    Count(u64),
    /// That number.
    Number(f64),
    /// That number, and null is nothing.
    NumberOrNull(f64),
    /// On or off.
    Flag(bool),
    /// That text.
    Text(&'static str),
    /// As another field, which comes before.
    As(&'static str),
    /// One field by another; both come before.
    By(&'static str, &'static str),
    /// An empty list.
    Empty,
}

impl Field {
    const fn new(name: &'static str, kind: FieldKind, default: Default) -> Self {
        Self {
            name,
            alias: None,
            kind,
            default,
        }
    }

    /// A count that has to be there.
    pub(super) const fn size(name: &'static str) -> Self {
        Self::new(name, FieldKind::Count, Default::Needed)
    }

    /// A count.
    pub(super) const fn count(name: &'static str, default: u64) -> Self {
        Self::new(name, FieldKind::Count, Default::Count(default))
    }

    /// A count with another default.
    pub(super) const fn count_or(name: &'static str, default: Default) -> Self {
        Self::new(name, FieldKind::Count, default)
    }

    /// A number.
    pub(super) const fn number(name: &'static str, default: f64) -> Self {
        Self::new(name, FieldKind::Number, Default::Number(default))
    }

    /// A number that null turns off.
    pub(super) const fn number_or_null(name: &'static str, default: f64) -> Self {
        Self::new(name, FieldKind::Number, Default::NumberOrNull(default))
    }

    /// A number that may be left out.
    pub(super) const fn optional(name: &'static str) -> Self {
        Self::new(name, FieldKind::Number, Default::Null)
    }

    /// On or off.
    pub(super) const fn flag(name: &'static str, default: bool) -> Self {
        Self::new(name, FieldKind::Flag, Default::Flag(default))
    }

    /// An activation.
    pub(super) const fn activation(name: &'static str, default: &'static str) -> Self {
        Self::new(name, FieldKind::Activation, Default::Text(default))
    }

    /// A list of counts.
    pub(super) const fn counts(name: &'static str) -> Self {
        Self::new(name, FieldKind::Counts, Default::Empty)
    }

    /// What each layer is, attention or mamba.
    pub(super) const fn layers(name: &'static str) -> Self {
        Self::new(name, FieldKind::Layers, Default::Needed)
    }

    /// A text.
    pub(super) const fn text(name: &'static str, default: &'static str) -> Self {
        Self::new(name, FieldKind::Text, Default::Text(default))
    }

    /// The same with another name, which counts where the first is not there.
    pub(super) const fn or(self, alias: &'static str) -> Self {
        Self {
            alias: Some(alias),
            ..self
        }
    }

    /// The field's value for the engine; `before` are those that come before it.
    pub(super) fn read(
        &self,
        given: &Map<String, Value>,
        before: &Map<String, Value>,
        architecture: &str,
    ) -> Result<Value, Failure> {
        let aliased = || given.get(self.alias?);
        let there = given.get(self.name).or_else(aliased);
        if matches!(
            (there, self.default),
            (Some(Value::Null), Default::NumberOrNull(_))
        ) {
            return Ok(Value::Null);
        }
        match there.filter(|value| !value.is_null()) {
            None => self.default(before),
            Some(value) => self.convert(value, architecture),
        }
    }

    fn default(&self, before: &Map<String, Value>) -> Result<Value, Failure> {
        let count = |name: &str| before.get(name).and_then(Value::as_u64);
        Ok(match self.default {
            Default::Needed => {
                return Err(Failure::unusable(format!(
                    "config.json has no {}. Get the config.json that belongs to the model.",
                    self.name
                )));
            }
            Default::Null => Value::Null,
            Default::Count(count) => count.into(),
            Default::Number(number) | Default::NumberOrNull(number) => number.into(),
            Default::Flag(flag) => flag.into(),
            Default::Text(text) => text.into(),
            Default::As(other) => before.get(other).cloned().unwrap_or_default(),
            Default::By(whole, part) => {
                let by = count(whole).and_then(|whole| whole.checked_div(count(part)?));
                by.map_or(Value::Null, Value::from)
            }
            Default::Empty => json!([]),
        })
    }

    fn convert(&self, value: &Value, architecture: &str) -> Result<Value, Failure> {
        let whole = |value: &Value| {
            let number = value.as_f64().filter(|number| number.fract() == 0.0);
            let from_float = || number.filter(|n| (0.0..1e15).contains(n));
            value.as_u64().or_else(|| from_float().map(|n| n as u64))
        };
        let converted = match self.kind {
            FieldKind::Count => whole(value).map(Value::from),
            FieldKind::Number => value.as_f64().map(Value::from),
            FieldKind::Flag => value.as_bool().map(Value::from),
            FieldKind::Text => value.as_str().map(Value::from),
            FieldKind::Layers => {
                let layer = |value: &Value| match value.as_str()? {
                    "attention" | "full_attention" => Some(Value::from("attention")),
                    "mamba" | "linear_attention" => Some(Value::from("mamba")),
                    _ => None,
                };
                let listed: Option<Vec<Value>> = value
                    .as_array()
                    .and_then(|list| list.iter().map(layer).collect());
                listed.map(Value::from)
            }
            FieldKind::Counts => value.as_array().and_then(|list| {
                let counts: Option<Vec<Value>> =
                    list.iter().map(|v| whole(v).map(Value::from)).collect();
                counts.map(Value::from)
            }),
            FieldKind::Activation => {
                let name = value.as_str();
                let known = ACTIVATIONS.iter().find(|(known, _)| Some(*known) == name);
                if name.is_some() && known.is_none() {
                    return Err(refused(self.name, value, architecture));
                }
                known.map(|(_, engine)| Value::from(*engine))
            }
        };
        converted.ok_or_else(|| self.invalid(value))
    }

    fn invalid(&self, value: &Value) -> Failure {
        let wanted = match self.kind {
            FieldKind::Count => "a whole number that is not negative",
            FieldKind::Number => "a number",
            FieldKind::Flag => "true or false",
            FieldKind::Activation | FieldKind::Text => "a text",
            FieldKind::Counts => "a list of whole numbers",
            FieldKind::Layers => "a list of attention and mamba",
        };
        Failure::unusable(format!(
            "config.json sets {} to {}, where {wanted} is needed. Get the config.json that belongs to the model.",
            self.name,
            beginning(value)
        ))
    }
}

/// A field that the engine does not read.
pub(in crate::inspect) struct FieldConstraint {
    name: &'static str,
    allowed: Allowed,
}

/// At which values the engine computes what a field says. One that is not there, or null, is always right.
enum Allowed {
    /// Off, or zero.
    Off,
    /// Off, or zero; and it is this where it is not there.
    OffByDefault(u64),
    On,
    Number(f64),
    Texts(&'static [&'static str]),
    /// One field by another.
    By(&'static str, &'static str),
}

impl FieldConstraint {
    /// It has to be off.
    pub(super) const fn off(name: &'static str) -> Self {
        let allowed = Allowed::Off;
        Self { name, allowed }
    }

    /// It has to be on.
    pub(super) const fn on(name: &'static str) -> Self {
        let allowed = Allowed::On;
        Self { name, allowed }
    }

    /// It has to be off, or zero, and is `default` where it is not there.
    pub(super) const fn off_by_default(name: &'static str, default: u64) -> Self {
        let allowed = Allowed::OffByDefault(default);
        Self { name, allowed }
    }

    /// It has to be this number.
    pub(super) const fn number(name: &'static str, number: f64) -> Self {
        let allowed = Allowed::Number(number);
        Self { name, allowed }
    }

    /// It has to be one of these texts.
    pub(super) const fn texts(name: &'static str, texts: &'static [&'static str]) -> Self {
        let allowed = Allowed::Texts(texts);
        Self { name, allowed }
    }

    /// It has to be one field by another.
    pub(super) const fn by(name: &'static str, whole: &'static str, part: &'static str) -> Self {
        let allowed = Allowed::By(whole, part);
        Self { name, allowed }
    }

    /// Checks the field.
    pub(super) fn check(
        &self,
        given: &Map<String, Value>,
        architecture: &str,
    ) -> Result<(), Failure> {
        let there = given.get(self.name).filter(|value| !value.is_null());
        let default;
        let value = match (there, &self.allowed) {
            (Some(value), _) => value,
            (None, Allowed::OffByDefault(value)) => {
                default = Value::from(*value);
                &default
            }
            (None, _) => return Ok(()),
        };
        let count = |name: &str| given.get(name).and_then(Value::as_f64);
        let right = match &self.allowed {
            Allowed::Off | Allowed::OffByDefault(_) => {
                *value == Value::Bool(false) || value.as_f64() == Some(0.0)
            }
            Allowed::On => *value == Value::Bool(true),
            Allowed::Number(number) => value.as_f64() == Some(*number),
            Allowed::Texts(texts) => value.as_str().is_some_and(|text| texts.contains(&text)),
            Allowed::By(whole, part) => count(whole)
                .zip(count(part))
                .is_none_or(|(whole, part)| value.as_f64() == Some((whole / part).floor())),
        };
        if right {
            return Ok(());
        }
        Err(refused(self.name, value, architecture))
    }
}
