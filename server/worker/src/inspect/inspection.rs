//! What the headers of a model's files say, and how it is to be loaded.

use std::path::PathBuf;

use hangar_client::v1::{DataType, ModelKind, ModelMetadata};
use hangar_worker_protocol::v1::{ModelInspection, ProgressMeasure};

use super::{
    architecture::Limits, chat_templates::Templates, device_plan::DevicePlan,
    directory_files::DirectoryFiles, memory_need::SequenceNeed, model_config, modules::Modules,
    multimodal::Multimodal, text_settings::TextSettings,
};
use crate::{prepared::Prepared, quantization::Quantization};

/// Files that the engine is to load.
#[derive(Debug, Clone)]
pub(crate) enum Files {
    /// Safetensors and what belongs to them.
    Directory(Box<DirectoryFiles>),
    /// One GGUF file.
    Gguf(PathBuf),
}

/// What the headers of a model's files say, and how it is to be loaded.
#[derive(Debug, Clone)]
pub(crate) struct Inspection {
    /// What to load.
    pub(crate) files: Files,
    /// What the model is; never unspecified.
    pub(crate) kind: ModelKind,
    /// What there is to know about a multimodal model beside that.
    pub(crate) multimodal: Option<Multimodal>,
    /// Data type of the weights in memory; never unspecified.
    pub(crate) dtype: DataType,
    /// What the weights are quantized to when they are loaded.
    pub(crate) quantization: Option<InSituQuantization>,
    /// config.json for the engine; empty where it needs none.
    pub(crate) config: Vec<u8>,
    /// What there is to know about its tokens.
    pub(crate) text_settings: TextSettings,
    /// Up to where the engine computes what the model says.
    pub(crate) limits: Limits,
    /// Longest sequence in tokens, where the files or the spec give it.
    pub(crate) context_length: Option<u32>,
    /// Rows of the embedding, where the files give it.
    pub(crate) vocabulary_size: Option<u32>,
    /// As far as known.
    pub(crate) metadata: ModelMetadata,
    pub(super) weight_bytes: u64,
    pub(super) measure: ProgressMeasure,
    pub(super) need_host_bytes: u64,
    /// The same with room for the longest sequence.
    pub(super) roomy_host_bytes: u64,
    /// What sequences take of the host's memory; `None` where it is no matter of that.
    pub(crate) sequence_need: Option<SequenceNeed>,
    /// How it is to lie on its device.
    pub(crate) device_plan: DevicePlan,
    /// Chat template in place of the model's own; empty: the model's own.
    pub(crate) chat_template: String,
}

/// Quantization of the weights when they are loaded.
#[derive(Debug, Clone)]
pub(crate) struct InSituQuantization {
    /// The type.
    pub(crate) to: Quantization,
    /// What is there already.
    pub(crate) prepared: Prepared,
    /// Expected size of the prepared weights in bytes.
    pub(crate) bytes: u64,
}

impl Inspection {
    /// For the ready message.
    pub(crate) fn to_message(&self) -> ModelInspection {
        ModelInspection {
            metadata: Some(self.metadata.clone()),
            weight_bytes: self.weight_bytes,
            progress_measure: self.measure.into(),
            need_host_bytes: self.need_host_bytes,
            roomy_host_bytes: self.roomy_host_bytes,
            need_device_bytes: self.device_plan.need,
            max_concurrency: self.device_plan.concurrency,
            prepared: self
                .prepared()
                .map_or(0, |prepared| prepared.to_message().into()),
            prepared_key: self.prepared().map_or_else(String::new, Prepared::key),
        }
    }

    /// What makes a vector of the transformer's output, for an embedding model.
    pub(crate) fn modules(&self) -> Option<&Modules> {
        match &self.files {
            Files::Directory(files) => files.modules.as_ref(),
            Files::Gguf(_) => None,
        }
    }

    /// Whether the engine has the loader of this text model among the multimodal ones.
    pub(crate) fn is_loaded_as_multimodal(&self) -> bool {
        self.metadata.architecture == model_config::GEMMA3_TEXT
    }

    /// The model's own chat templates.
    pub(crate) fn templates(&self) -> &Templates {
        match &self.multimodal {
            Some(multimodal) => &multimodal.templates,
            None => &self.text_settings.templates,
        }
    }

    fn prepared(&self) -> Option<&Prepared> {
        self.quantization.as_ref().map(|in_situ| &in_situ.prepared)
    }
}
