//! Looks at a model's files before the engine does, in a bounded way.
//!
//! The engine panics on some malformed files and aborts the process on others, and it notices many faults
//! only after reading gigabytes. What passes here is well-formed as far as headers and small files show;
//! nothing here allocates by a length that a file claims, reads anything but regular files, or panics.

mod adapters;
mod architecture;
mod chat_templates;
mod config_fields;
mod device_plan;
mod directory;
mod directory_files;
mod embedding;
mod files;
mod generation;
mod gguf;
mod inspection;
mod json;
mod kind;
mod kv_cache;
mod lm_head;
mod memory_need;
mod model_config;
mod modules;
mod multimodal;
mod required_tensors;
mod safetensors;
mod shards;
mod spec;
mod stored_quantization;
mod text_settings;
mod tokenizer;
mod weights;

use std::path::Path;

pub(crate) use adapters::Adapter;
pub(crate) use architecture::Limits;
pub(crate) use chat_templates::Templates;
pub(crate) use directory_files::DirectoryFiles;
pub(crate) use generation::TokenDefaults;
use hangar_client::v1::{ModelFormat, ModelKind};
use hangar_worker_protocol::v1::WorkerConfig;
pub(crate) use inspection::{Files, InSituQuantization, Inspection};
pub(crate) use kv_cache::KvPlan;
#[cfg(test)]
pub(crate) use memory_need::KeptNeed;
pub(crate) use memory_need::SequenceNeed;
pub(crate) use modules::{Module, Modules, Pooling};
pub(crate) use multimodal::Multimodal;

use crate::{
    device::TargetDevice,
    failure::{Failure, panic_message},
};

/// Stack of the thread that inspects.
const STACK: usize = 16 << 20;

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
    check_kind(config.spec().kind())?;
    let about = files::about(path)?;
    match (about.is_dir(), config.spec().format()) {
        (_, ModelFormat::Uqff) => Err(spec::uqff()),
        (true, ModelFormat::Unspecified | ModelFormat::Safetensors) => {
            directory::inspect(config, path, device)
        }
        (false, ModelFormat::Unspecified | ModelFormat::Gguf) => {
            adapters::refuse(&config.spec().adapters, "a GGUF file")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn other_kinds_are_refused() {
        assert!(check_kind(ModelKind::Embedding).is_ok());
        assert!(check_kind(ModelKind::Image).is_err());
    }
}
