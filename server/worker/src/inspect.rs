//! Looks at a model's files before the engine does, in a bounded way.
//!
//! The engine panics on some malformed files and aborts the process on others, and it notices many faults
//! only after reading gigabytes. What passes here is well-formed as far as headers and small files tell;
//! nothing here allocates by a length that a file claims, reads anything but regular files, or panics.

mod adapters;
mod architecture;
mod bidirectional;
mod directory;
mod embedding;
mod files;
mod gguf;
mod json;
pub(crate) mod kv_cache;
mod language;
mod model_config;
mod modules;
mod multimodal;
mod need;
mod needed;
mod parts;
mod placement;
mod safetensors;
mod tokenizer;
mod weights;

use std::path::{Path, PathBuf};

use hangar_client::v1::{DataType, ModelFormat, ModelKind, ModelMetadata};
use hangar_worker_protocol::v1::{ModelInspection, ProgressMeasure, WorkerConfig};

use crate::device::TargetDevice;
use crate::failure::{Failure, panic_message};
use crate::prepared::Prepared;
use crate::quantization::Quantization;
pub(crate) use adapters::Adapter;
pub(crate) use architecture::Limits;
pub(crate) use directory::DirectoryFiles;
pub(crate) use language::Language;
pub(crate) use modules::{Modules, Pooling};
pub(crate) use multimodal::Multimodal;
pub(crate) use placement::Placement;

/// Stack of the thread that inspects.
const STACK: usize = 16 << 20;

/// Files that the engine is to load.
#[derive(Debug, Clone)]
pub(crate) enum Files {
    /// Safetensors and what belongs to them.
    Directory(Box<DirectoryFiles>),
    /// One GGUF file.
    Gguf(PathBuf),
}

/// What the headers of a model's files tell, and how it is to be loaded.
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
    pub(crate) quantization: Option<InSitu>,
    /// config.json for the engine; empty where it needs none.
    pub(crate) config: Vec<u8>,
    /// What there is to know about its tokens.
    pub(crate) language: Language,
    /// Up to where the engine computes what the model says.
    pub(crate) limits: Limits,
    /// Longest sequence in tokens, where the files or the spec tell it.
    pub(crate) context_length: Option<u32>,
    /// Rows of the embedding, where the files tell it.
    pub(crate) vocabulary_size: Option<u32>,
    /// As far as known.
    pub(crate) metadata: ModelMetadata,
    weight_bytes: u64,
    measure: ProgressMeasure,
    need_host_bytes: u64,
    /// How it is to lie on its device.
    pub(crate) placement: Placement,
    /// Chat template in place of the model's own; empty: the model's own.
    pub(crate) chat_template: String,
}

/// Quantization of the weights when they are loaded.
#[derive(Debug, Clone)]
pub(crate) struct InSitu {
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
            need_device_bytes: self.placement.need,
            max_concurrency: self.placement.concurrency,
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

    /// The chat template to use: empty for the one that the engine finds, `None` where there is none.
    pub(crate) fn chat_template(&self) -> Option<&str> {
        // The engine has another one for multimodal models, which is of no use here.
        if self.kind != ModelKind::Multimodal || !self.chat_template.is_empty() {
            return Some(&self.chat_template);
        }
        self.multimodal.as_ref()?.template.as_deref()
    }

    fn prepared(&self) -> Option<&Prepared> {
        self.quantization.as_ref().map(|in_situ| &in_situ.prepared)
    }
}

/// Inspects the model at `path`. Runs on its own thread, so that whatever a file does to a parser stays
/// there. Blocks.
pub(crate) fn inspect(config: &WorkerConfig, path: &Path) -> Result<Inspection, Failure> {
    let (config, path) = (config.clone(), path.to_owned());
    let thread = std::thread::Builder::new()
        .name("inspect".into())
        .stack_size(STACK)
        .spawn(move || inspect_here(&config, &path))
        .map_err(|e| Failure::internal(format!("no thread could be started: {e}")))?;
    thread.join().unwrap_or_else(|panic| {
        Err(Failure::unusable(format!(
            "The model's files could not be read: {}. Check that they are complete and were not changed.",
            panic_message(&*panic)
        )))
    })
}

fn inspect_here(config: &WorkerConfig, path: &Path) -> Result<Inspection, Failure> {
    let device = TargetDevice::find(&config.device)?;
    check_kind(config.kind())?;
    let about = files::about(path)?;
    match (about.is_dir(), config.format()) {
        (_, ModelFormat::Uqff) => Err(uqff()),
        (true, ModelFormat::Unspecified | ModelFormat::Safetensors) => {
            directory::inspect(config, path, device)
        }
        (false, ModelFormat::Unspecified | ModelFormat::Gguf) => {
            adapters::refuse(&config.adapters, "a GGUF file")?;
            gguf::inspect(config, path, device)
        }
        (true, ModelFormat::Gguf) => Err(Failure::unusable(format!(
            "The format is GGUF, but {} is a directory. Give the path of the GGUF file.",
            files::name(path)
        ))),
        (false, ModelFormat::Safetensors) => Err(Failure::unusable(format!(
            "The format is safetensors, but {} is a file. Give the path of the model's directory.",
            files::name(path)
        ))),
    }
}

fn check_kind(kind: ModelKind) -> Result<(), Failure> {
    let name = match kind {
        ModelKind::Unspecified | ModelKind::Text | ModelKind::Multimodal | ModelKind::Embedding => {
            return Ok(());
        }
        ModelKind::Image => "image",
        ModelKind::Speech => "speech",
    };
    Err(Failure::unusable(format!(
        "Models of kind {name} are not supported by this version of Hangar. Load a text model."
    )))
}

/// Checks that the files hold a model of the kind that was asked for.
fn check_kind_found(asked: ModelKind, found: ModelKind, what: &str) -> Result<(), Failure> {
    if asked == ModelKind::Unspecified || asked == found {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "The spec says that the model is of kind {}, but its files are those of kind {} ({what}). Correct \
         the kind or leave it out.",
        kind_name(asked),
        kind_name(found)
    )))
}

fn kind_name(kind: ModelKind) -> &'static str {
    kind.as_str_name()
        .strip_prefix("MODEL_KIND_")
        .unwrap_or("UNSPECIFIED")
}

fn uqff() -> Failure {
    Failure::unusable(
        "UQFF files are not supported by this version of Hangar. Load the safetensors or the GGUF file \
         that they were made from.",
    )
}

/// The data type that was asked for, else one that the device computes well.
fn choose_dtype(asked: DataType, device: &TargetDevice, stored_as_f32: bool) -> DataType {
    match asked {
        DataType::Unspecified => device.best_dtype(stored_as_f32),
        asked => asked,
    }
}

/// Length to serve: what was asked for, which the model has to allow; else all that it allows.
fn choose_context(asked: u32, allowed: Option<u32>) -> Result<Option<u32>, Failure> {
    match (asked, allowed) {
        (0, allowed) => Ok(allowed),
        (asked, Some(allowed)) if asked > allowed => Err(Failure::unusable(format!(
            "The context length of {asked} tokens is more than the {allowed} that the model was made \
             for. Leave context_length out or set it to at most {allowed}."
        ))),
        (asked, _) => Ok(Some(asked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_in_f32_stay_so_and_others_become_f16() {
        let choose = |asked, stored_as_f32| choose_dtype(asked, &TargetDevice::Cpu, stored_as_f32);
        assert_eq!(choose(DataType::Unspecified, true), DataType::F32);
        assert_eq!(choose(DataType::Unspecified, false), DataType::F16);
        assert_eq!(choose(DataType::Bf16, true), DataType::Bf16);
    }

    #[test]
    fn the_context_is_never_longer_than_the_model_allows() {
        assert_eq!(choose_context(0, Some(256)).ok(), Some(Some(256)));
        assert_eq!(choose_context(100, Some(256)).ok(), Some(Some(100)));
        assert!(choose_context(257, Some(256)).is_err());
    }

    #[test]
    fn other_kinds_are_refused() {
        assert!(check_kind(ModelKind::Embedding).is_ok());
        assert!(check_kind(ModelKind::Image).is_err());
    }
}
