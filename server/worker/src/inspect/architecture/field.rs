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

/// What a field says that is to be derived from others.
const AUTO: &str = "auto";

/// A field that the engine reads as well.
pub(in crate::inspect) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// Another name of it in the reference.
    pub(super) alias: Option<&'static str>,
    /// Whether the other name counts before this one.
    alias_first: bool,
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
    /// An activation, of which "gelu" means its approximation.
    OldActivation,
    Counts,
    /// A number for each layer, of which zero says something else than others.
    PerLayer,
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
    /// The product of the first two by the third; all come before.
    Product(&'static str, &'static str, &'static str),
    /// An empty list.
    Empty,
    /// That for each layer.
    Each(&'static str),
}

impl Field {
    const fn new(name: &'static str, kind: FieldKind, default: Default) -> Self {
        Self {
            name,
            alias: None,
            alias_first: false,
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

    /// An activation of an architecture whose first files say "gelu" and mean its approximation, as the reference knows.
    pub(super) const fn old_activation(name: &'static str, default: &'static str) -> Self {
        Self::new(name, FieldKind::OldActivation, Default::Text(default))
    }

    /// A list of counts.
    pub(super) const fn counts(name: &'static str) -> Self {
        Self::new(name, FieldKind::Counts, Default::Empty)
    }

    /// A number for each layer, of which zero says something else than others; it may be left out.
    pub(super) const fn per_layer(name: &'static str) -> Self {
        Self::new(name, FieldKind::PerLayer, Default::Null)
    }

    /// What each layer is, attention or mamba.
    pub(super) const fn layers(name: &'static str, default: &'static str) -> Self {
        Self::new(name, FieldKind::Layers, Default::Each(default))
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

    /// The same with another name, which counts before it.
    pub(super) const fn or_first(self, alias: &'static str) -> Self {
        Self {
            alias_first: true,
            ..self.or(alias)
        }
    }

    /// The field's value for the engine; `before` are those that come before it.
    pub(super) fn read(
        &self,
        given: &Map<String, Value>,
        before: &Map<String, Value>,
        architecture: &str,
    ) -> Result<Value, Failure> {
        let (named, aliased) = (
            given.get(self.name),
            self.alias.and_then(|name| given.get(name)),
        );
        let there = match self.alias_first {
            true => aliased.or(named),
            false => named.or(aliased),
        };
        if matches!(
            (there, self.default),
            (Some(Value::Null), Default::NumberOrNull(_))
        ) {
            return Ok(Value::Null);
        }
        let is_left_out = |value: &Value| value.is_null() || (self.is_derived() && value == AUTO);
        match there.filter(|value| !is_left_out(value)) {
            None => self.default(before),
            Some(value) if self.is_short(value, before) => Err(Failure::unusable(format!(
                "config.json gives in {} less than a number for each layer. Get the config.json that belongs to the \
                 model.",
                self.name
            ))),
            Some(value) => self.convert(value, architecture),
        }
    }

    /// Whether it may be left to other fields by a word.
    fn is_derived(&self) -> bool {
        matches!(self.default, Default::Product(..))
    }

    /// Whether a list has less than one for each layer, and is to have one.
    fn is_short(&self, value: &Value, before: &Map<String, Value>) -> bool {
        let layers = before.get("num_hidden_layers").and_then(Value::as_u64);
        let length = value.as_array().map(|list| list.len() as u64);
        let short = length
            .zip(layers)
            .is_some_and(|(length, layers)| length < layers);
        self.kind == FieldKind::PerLayer && short
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
            Default::Product(one, other, by) => {
                let product = count(one).and_then(|one| one.checked_mul(count(other)?));
                let by = product.and_then(|product| product.checked_div(count(by)?));
                by.map_or(Value::Null, Value::from)
            }
            Default::Empty => json!([]),
            Default::Each(kind) => {
                let layers = count("num_hidden_layers").unwrap_or(0);
                (0..layers).map(|_| Value::from(kind)).collect()
            }
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
            FieldKind::Counts | FieldKind::PerLayer => value.as_array().and_then(|list| {
                let counts: Option<Vec<Value>> =
                    list.iter().map(|v| whole(v).map(Value::from)).collect();
                counts.map(Value::from)
            }),
            FieldKind::Activation | FieldKind::OldActivation => {
                let name = match (self.kind, value.as_str()) {
                    (FieldKind::OldActivation, Some("gelu")) => Some("gelu_pytorch_tanh"),
                    (_, name) => name,
                };
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
            FieldKind::Activation | FieldKind::OldActivation | FieldKind::Text => "a text",
            FieldKind::Counts | FieldKind::PerLayer => "a list of whole numbers",
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
    /// On, and it is off where it is not there.
    TurnedOn,
    Number(f64),
    Texts(&'static [&'static str]),
    /// A range from zero on without an end. JSON has no word for that: one that is beyond it was made null.
    Unbounded,
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

    /// It has to be on, and is off where it is not there.
    pub(super) const fn turned_on(name: &'static str) -> Self {
        let allowed = Allowed::TurnedOn;
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

    /// It has to be a range from zero on without an end.
    pub(super) const fn unbounded(name: &'static str) -> Self {
        let allowed = Allowed::Unbounded;
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
            (None, Allowed::TurnedOn) => {
                default = Value::Bool(false);
                &default
            }
            (None, _) => return Ok(()),
        };
        let count = |name: &str| given.get(name).and_then(Value::as_f64);
        let right = match &self.allowed {
            Allowed::Off | Allowed::OffByDefault(_) => {
                *value == Value::Bool(false) || value.as_f64() == Some(0.0)
            }
            Allowed::On | Allowed::TurnedOn => *value == Value::Bool(true),
            Allowed::Number(number) => value.as_f64() == Some(*number),
            Allowed::Texts(texts) => value.as_str().is_some_and(|text| texts.contains(&text)),
            Allowed::Unbounded => {
                value[0].as_f64() == Some(0.0)
                    && (value[1].is_null() || value[1]["__float__"] == "Infinity")
            }
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
