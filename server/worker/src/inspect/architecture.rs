//! What each architecture's config.json says that changes the computation: how it is handed to the engine, and
//! what the engine cannot compute, which is refused by the name of the field.
//!
//! The reference is transformers: a field that is not there has its default there, and both its forms are read
//! (`rope_parameters` and `dtype` of transformers 5, `rope_theta`, `rope_scaling` and `torch_dtype` before).
//! The engine reads config.json loosely: it drops what it does not know. So it gets a config.json that is
//! made here, with its own fields and nothing else; fields that are in no table may hold anything.

mod definition;
mod field;
mod limits;
mod refusal;
mod rope;
mod table;
mod tensors;
mod window;

use serde_json::{Map, Value, json};

pub(super) use self::definition::Architecture;
pub(crate) use self::limits::Limits;
use self::rope::Rope;
use crate::failure::Failure;

/// A config.json as the engine gets it.
#[derive(Debug, Clone)]
pub(super) struct TranslatedConfig {
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
    pub(super) fn translate(
        &self,
        given: &Map<String, Value>,
    ) -> Result<TranslatedConfig, Failure> {
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
        self.rope
            .write(&rope, self.name, &mut fields, &mut limits)?;
        self.window
            .write(given, self.name, &mut fields, &mut limits)?;
        fields.insert("architectures".into(), json!([self.name]));
        if let Some(quantization) = given.get("quantization_config") {
            fields.insert("quantization_config".into(), quantization.clone());
        }
        Ok(TranslatedConfig { fields, limits })
    }

    /// Names of the tensors that the engine reads for these translated fields.
    pub(super) fn tensors(&self, fields: &Map<String, Value>) -> Vec<String> {
        self.tensors.names(fields)
    }
}

/// Turns what transformers 5 writes of rotations into its older form, in the file's fields and in those of its text
/// half: for architectures without a table, of which the engine reads the file as it is.
pub(super) fn to_legacy_rope(fields: &mut Map<String, Value>) -> Result<(), Failure> {
    rope::to_legacy_rope(fields)?;
    if let Some(Value::Object(text)) = fields.get_mut("text_config") {
        rope::to_legacy_rope(text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
