//! How positions are encoded: rotations by a base, scaled or not.

use serde_json::{Map, Value, json};

use super::{limits::Limits, refusal::refused};
use crate::failure::Failure;

/// What a config.json says of rotations.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rope {
    /// The kind of scaling; "default" for none.
    kind: String,
    /// The base.
    theta: f64,
    /// The base in layers with a window, where it is another one.
    local_theta: Option<f64>,
    /// Share of a head that is rotated.
    rotated: Option<f64>,
    /// Length at which the model was trained first, where it is not said beside the scaling but of the whole.
    original: Option<u64>,
    /// What there is beside that.
    parameters: Map<String, Value>,
    /// The field that says it.
    field: &'static str,
}

/// What of it an architecture of the engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RopeForm {
    /// Nothing but the base.
    Plain,
    /// Linear scaling and that of Llama 3.
    Llama,
    /// Long and short factors.
    Phi,
    /// Yarn as DeepSeek has it.
    DeepSeek,
    /// Another base in layers with a window; in the others linear scaling.
    Gemma3,
    /// A part of each head for each of three coordinates.
    Sections,
}

/// Parts of a head for the coordinates, where the file does not say.
const SECTIONS: [u64; 3] = [24, 20, 20];

impl Rope {
    /// Reads both forms, as the reference does.
    pub(super) fn read(
        given: &Map<String, Value>,
        theta: f64,
        rotated: Option<f64>,
    ) -> Result<Self, Failure> {
        let object = |name: &str| {
            let object = given.get(name).and_then(Value::as_object);
            object.filter(|object| !object.is_empty())
        };
        let (mut parameters, field) = match (object("rope_scaling"), object("rope_parameters")) {
            (Some(scaling), _) => (scaling.clone(), "rope_scaling"),
            (None, Some(parameters)) => (parameters.clone(), "rope_parameters"),
            (None, None) => (Map::new(), "rope_scaling"),
        };
        let mut local_theta = given.get("rope_local_base_freq").and_then(Value::as_f64);
        if let Some(full) = parameters.get("full_attention").cloned() {
            let sliding = parameters.get("sliding_attention");
            local_theta = sliding
                .and_then(|it| it.get("rope_theta"))
                .and_then(Value::as_f64)
                .or(local_theta);
            if let Some(kind) = sliding.and_then(kind_in).filter(|kind| *kind != "default") {
                return Err(refused(
                    "rope_parameters.sliding_attention.rope_type",
                    &kind.into(),
                    "layers with a window",
                ));
            }
            parameters = full.as_object().cloned().unwrap_or_default();
        }
        let number = |parameters: &Map<String, Value>, name: &str| {
            let inside = parameters.get(name).filter(|value| !value.is_null());
            inside.or_else(|| given.get(name))?.as_f64()
        };
        let kind =
            kind_in(&Value::Object(parameters.clone())).map_or("default".into(), String::from);
        Ok(Self {
            theta: number(&parameters, "rope_theta").unwrap_or(theta),
            rotated: number(&parameters, "partial_rotary_factor").or(rotated),
            local_theta,
            original: given
                .get("original_max_position_embeddings")
                .and_then(Value::as_u64),
            kind,
            parameters,
            field,
        })
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.parameters.get(name).and_then(Value::as_f64)
    }

    fn needed(&self, name: &str) -> Result<f64, Failure> {
        self.number(name).ok_or_else(|| {
            Failure::unusable(format!(
                "config.json says in {} that positions are scaled as {} does it, but not by what {name}. Get \
                 the config.json that belongs to the model.",
                self.field, self.kind
            ))
        })
    }

    fn refused(&self, name: &str, value: &Value, architecture: &str) -> Failure {
        refused(&format!("{}.{name}", self.field), value, architecture)
    }

    /// Refuses a parameter that the engine leaves out, unless it is this number.
    fn only(&self, name: &str, number: f64, architecture: &str) -> Result<(), Failure> {
        match self.parameters.get(name).filter(|value| !value.is_null()) {
            Some(value)
                if value
                    .as_f64()
                    .is_none_or(|v| (v - number).abs() > 1e-6 * number.abs()) =>
            {
                Err(self.refused(name, value, architecture))
            }
            _ => Ok(()),
        }
    }
}

impl RopeForm {
    /// Hands it to the engine in its own form.
    pub(super) fn write(
        self,
        rope: &Rope,
        architecture: &str,
        fields: &mut Map<String, Value>,
        limits: &mut Limits,
    ) -> Result<(), Failure> {
        fields.insert("rope_theta".into(), rope.theta.into());
        match (fields.contains_key("partial_rotary_factor"), rope.rotated) {
            (true, Some(share)) => {
                fields.insert("partial_rotary_factor".into(), share.into());
            }
            (false, Some(share)) if share != 1.0 => {
                return Err(rope.refused("partial_rotary_factor", &share.into(), architecture));
            }
            _ => {}
        }
        if self == Self::Gemma3 {
            let local = rope.local_theta.unwrap_or(10_000.0);
            fields.insert("rope_local_base_freq".into(), local.into());
        }
        let scaling = match (self, rope.kind.as_str()) {
            (Self::Sections, "default" | "dynamic") => {
                let sections = rope.parameters.get("mrope_section");
                let sections = sections.filter(|sections| !sections.is_null());
                json!({"mrope_section": sections.cloned().unwrap_or(json!(SECTIONS))})
            }
            // Dynamic scaling begins where the model's context ends.
            (_, "default" | "dynamic") => return Ok(()),
            (Self::Llama | Self::Gemma3, "linear") => {
                json!({"rope_type": "linear", "factor": rope.needed("factor")?})
            }
            (Self::Llama, "llama3") => llama3(rope, fields)?,
            (Self::Phi, "longrope" | "su") => long_rope(rope, architecture, fields, limits)?,
            (Self::DeepSeek, "yarn") => deepseek(rope, architecture, fields)?,
            (_, kind) => return Err(rope.refused("rope_type", &kind.into(), architecture)),
        };
        fields.insert("rope_scaling".into(), scaling);
        Ok(())
    }
}

fn kind_in(parameters: &Value) -> Option<&str> {
    let kind = parameters
        .get("rope_type")
        .or_else(|| parameters.get("type"));
    kind.and_then(Value::as_str)
}

/// Length at which the model was trained first. What is said of the whole counts first, as in the reference.
fn original(rope: &Rope, fields: &Map<String, Value>) -> u64 {
    let inside = rope.parameters.get("original_max_position_embeddings");
    let outside = fields.get("max_position_embeddings");
    let count = |value: Option<&Value>| value.and_then(Value::as_u64);
    let length = rope.original.or_else(|| count(inside));
    length.or_else(|| count(outside)).unwrap_or(0)
}

fn llama3(rope: &Rope, fields: &Map<String, Value>) -> Result<Value, Failure> {
    Ok(json!({
        "rope_type": "llama3",
        "factor": rope.needed("factor")?,
        "low_freq_factor": rope.needed("low_freq_factor")?,
        "high_freq_factor": rope.needed("high_freq_factor")?,
        "original_max_position_embeddings": original(rope, fields),
    }))
}

/// A sequence uses the short factors up to the length of the first training, and the long ones for all of its
/// tokens beyond. The engine changes over from a token to the next, so none may grow across.
fn long_rope(
    rope: &Rope,
    architecture: &str,
    fields: &Map<String, Value>,
    limits: &mut Limits,
) -> Result<Value, Failure> {
    let count = |name: &str| fields.get(name).and_then(Value::as_u64);
    let first = count("original_max_position_embeddings")
        .unwrap_or(0)
        .max(1);
    let longest = count("max_position_embeddings").unwrap_or(0);
    #[allow(clippy::cast_precision_loss)]
    let (factor, base) = (longest as f64 / first as f64, first as f64);
    rope.only("factor", factor, architecture)?;
    let attention = match factor <= 1.0 {
        true => 1.0,
        false => (1.0 + factor.ln() / base.ln()).sqrt(),
    };
    rope.only("attention_factor", attention, architecture)?;
    rope.only("short_mscale", attention, architecture)?;
    rope.only("long_mscale", attention, architecture)?;
    let list = |name: &str| match rope.parameters.get(name) {
        Some(Value::Array(list)) if list.iter().all(Value::is_number) => Ok(list.clone()),
        other => Err(rope.refused(name, other.unwrap_or(&Value::Null), architecture)),
    };
    limits.rope_switch = u32::try_from(first).ok();
    Ok(json!({
        "type": "longrope",
        "short_factor": list("short_factor")?,
        "long_factor": list("long_factor")?,
    }))
}

fn deepseek(
    rope: &Rope,
    architecture: &str,
    fields: &Map<String, Value>,
) -> Result<Value, Failure> {
    if let Some(value @ Value::Bool(false)) = rope.parameters.get("truncate") {
        return Err(rope.refused("truncate", value, architecture));
    }
    if let Some(value) = rope
        .parameters
        .get("attention_factor")
        .filter(|v| !v.is_null())
    {
        return Err(rope.refused("attention_factor", value, architecture));
    }
    let all = rope.number("mscale_all_dim").unwrap_or(0.0);
    let scale = rope.number("mscale").unwrap_or(0.0);
    // Without both of them, the reference scales as with one and none.
    let (scale, all) = if scale == 0.0 || all == 0.0 {
        (1.0, 0.0)
    } else {
        (scale, all)
    };
    Ok(json!({
        "type": "yarn",
        "factor": rope.needed("factor")?,
        "original_max_position_embeddings": original(rope, fields),
        "beta_fast": rope.number("beta_fast").unwrap_or(32.0),
        "beta_slow": rope.number("beta_slow").unwrap_or(1.0),
        "mscale": scale,
        "mscale_all_dim": all,
    }))
}
