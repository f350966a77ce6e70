//! What each architecture's config.json says that changes the computation: how it is handed to the engine, and
//! what the engine cannot compute, which is refused by the name of the field.
//!
//! The reference is transformers: a field that is not there has its default there, and both its forms are read
//! (`rope_parameters` and `dtype` of transformers 5, `rope_theta`, `rope_scaling` and `torch_dtype` before).
//! The engine reads config.json loosely: it drops what it does not know. So it gets a config.json that is
//! made here, with its own fields and nothing else; fields that are in no table may hold anything.

mod field;
mod rope;
mod table;
mod tensors;
mod window;

use serde_json::{Map, Value, json};

pub(super) use self::field::{Field, Only};
use self::rope::{Rope, RopeForm};
pub(super) use self::tensors::Tensors;
use self::window::WindowForm;
use crate::failure::Failure;

/// What is known about an architecture.
pub(super) struct Architecture {
    /// Its name in config.json.
    pub(super) name: &'static str,
    /// Fields that the engine reads as well.
    fields: &'static [&'static [Field]],
    /// Fields that the engine does not read, with the values at which it computes what they say.
    fixed: &'static [Only],
    rope: RopeForm,
    /// Base of the rotations where the file does not say.
    theta: f64,
    /// Share of a head that is rotated where the file does not say; `None` where that is no matter of the file.
    rotated: Option<f64>,
    window: WindowForm,
    tensors: Tensors,
    /// What the engine does otherwise than the reference, whatever the fields say: such models are refused.
    pub(super) wrong: Option<&'static str>,
}

/// Lengths up to which the engine computes what the model says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Longest sequence.
    pub(crate) sequence: Option<u32>,
    /// Longest prompt that is right when it is computed at once; further tokens have to be given one by one.
    pub(crate) at_once: Option<u32>,
    /// A sequence that begins below this length must not grow beyond it.
    pub(crate) switch: Option<u32>,
}

/// A config.json as the engine gets it.
#[derive(Debug, Clone)]
pub(super) struct Translated {
    /// Its fields.
    pub(super) fields: Map<String, Value>,
    /// What goes with it.
    pub(super) limits: Limits,
}

impl Architecture {
    /// The one of this name, if it is a text model's that has a table.
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        let name = match name {
            // As transformers itself has it.
            "PhimoeForCausalLM" => "PhiMoEForCausalLM",
            name => name,
        };
        table::all().find(|known| known.name == name)
    }

    /// The one that computes what the file says: a Llama whose heads have a width of their own, or whose
    /// rotations are scaled by yarn, is computed by the engine's Mistral, which is the same but for that.
    pub(super) fn computed_by(&'static self, given: &Map<String, Value>) -> &'static Self {
        if self.name != "LlamaForCausalLM" {
            return self;
        }
        let own_width = table::HEAD_DIM.check(given, self.name).is_err();
        let yarn = Rope::read(given, self.theta, None).is_ok_and(|rope| rope.kind == "yarn");
        if own_width || yarn {
            return &table::LLAMA_AS_MISTRAL;
        }
        self
    }

    /// Translates the fields of a config.json.
    pub(super) fn translate(&self, given: &Map<String, Value>) -> Result<Translated, Failure> {
        let mut fields = Map::new();
        for field in self.fields.iter().copied().flatten() {
            let value = field.read(given, &fields, self.name)?;
            fields.insert(field.name.into(), value);
        }
        for only in self.fixed {
            only.check(given, self.name)?;
        }
        let rope = Rope::read(given, self.theta, self.rotated)?;
        let mut limits = Limits::default();
        self.rope.hand(&rope, self.name, &mut fields, &mut limits)?;
        self.window
            .hand(given, self.name, &mut fields, &mut limits)?;
        fields.insert("architectures".into(), json!([self.name]));
        if let Some(quantization) = given.get("quantization_config") {
            fields.insert("quantization_config".into(), quantization.clone());
        }
        Ok(Translated { fields, limits })
    }

    /// Names of the tensors that the engine reads for these translated fields.
    pub(super) fn tensors(&self, fields: &Map<String, Value>) -> Vec<String> {
        self.tensors.names(fields)
    }
}

/// Turns what transformers 5 writes of rotations into its older form, in the file's fields and in those of its text
/// half: for architectures without a table, of which the engine reads the file as it is.
pub(super) fn make_older(fields: &mut Map<String, Value>) -> Result<(), Failure> {
    rope::make_older(fields)?;
    if let Some(Value::Object(text)) = fields.get_mut("text_config") {
        rope::make_older(text)?;
    }
    Ok(())
}

/// Why a value of config.json is refused.
fn refused(field: &str, value: &Value, architecture: &str) -> Failure {
    Failure::unusable(format!(
        "config.json sets {field} to {}, which the engine (mistral.rs {}) does not compute for {architecture}. \
         The file is as it should be: load another model, or a variant of this one without that.",
        shown(value),
        crate::version::ENGINE_VERSION
    ))
}

/// The beginning of a value.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
