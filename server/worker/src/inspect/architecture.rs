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

pub(crate) use self::limits::Limits;
pub(super) use self::{definition::Architecture, tensors::Naming, window::LayersInWindow};
use self::{refusal::refused, rope::Rope};
use crate::failure::Failure;

/// The tensors that the engine reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RequiredTensors {
    /// Their names.
    pub(super) names: Vec<String>,
    /// How they are put together.
    pub(super) naming: Naming,
}

impl RequiredTensors {
    /// Name of a head that is the embedding as well, whether or not the files have a copy of it.
    pub(super) fn tied_head(&self) -> Option<String> {
        let head = format!("{}.weight", self.naming.head?);
        (!self.names.contains(&head)).then_some(head)
    }
}

/// A config.json as the engine gets it.
#[derive(Debug, Clone)]
pub(super) struct TranslatedConfig {
    /// Its fields.
    pub(super) fields: Map<String, Value>,
    /// What goes with it.
    pub(super) limits: Limits,
    /// What layers keep.
    pub(super) in_window: LayersInWindow,
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

    /// The text half of the multimodal one of this name.
    pub(super) fn of_text_half(name: &str) -> Option<&'static Self> {
        table::HALVES.iter().find(|known| known.name == name)
    }

    /// The one of embedding models of this name.
    pub(super) fn of_embedding(name: &str) -> Option<&'static Self> {
        let name = match name {
            // As it is without the head, which such models do not have.
            "Qwen3Model" => "Qwen3ForCausalLM",
            name => name,
        };
        table::EMBEDDINGS.iter().find(|known| known.name == name)
    }

    /// The one that computes what the file says: a Llama whose heads have a width of their own is computed by the
    /// engine's Mistral, which is the same but for that.
    pub(super) fn computed_by(&'static self, given: &Map<String, Value>) -> &'static Self {
        let is_llama = self.name == "LlamaForCausalLM";
        if is_llama && table::HEAD_DIM.check(given, self.name).is_err() {
            return &table::LLAMA_AS_MISTRAL;
        }
        self
    }

    /// Translates the fields of a config.json, whose name of the architecture is in refusals.
    pub(super) fn translate(
        &self,
        name: &str,
        given: &Map<String, Value>,
    ) -> Result<TranslatedConfig, Failure> {
        check_direction(given, name)?;
        let mut fields = Map::new();
        for field in self.fields.iter().copied().flatten() {
            let value = field.read(given, &fields, name)?;
            fields.insert(field.name.into(), value);
        }
        for only in self.fixed {
            only.check(given, name)?;
        }
        let rope = Rope::read(given, self.theta, self.rotated)?;
        let mut limits = Limits::default();
        self.rope.write(&rope, name, &mut fields, &mut limits)?;
        self.window.write(given, name, &mut fields, &mut limits)?;
        fields.insert("architectures".into(), json!([self.name]));
        let in_window = self.window.kept_in_window(&fields);
        Ok(TranslatedConfig {
            fields,
            limits,
            in_window,
        })
    }

    /// The tensors that the engine reads for these translated fields.
    pub(super) fn tensors(&self, fields: &Map<String, Value>) -> RequiredTensors {
        RequiredTensors {
            names: self.tensors.names(fields, self.naming),
            naming: self.naming,
        }
    }
}

/// Refuses a model each of whose tokens sees those after it, too: what the reference makes of every decoder that says so.
fn check_direction(given: &Map<String, Value>, architecture: &str) -> Result<(), Failure> {
    const CAUSAL: &str = "is_causal";
    match given.get(CAUSAL) {
        None | Some(Value::Bool(true)) => Ok(()),
        Some(value) => Err(refused(CAUSAL, value, architecture)),
    }
}

#[cfg(test)]
mod tests;
