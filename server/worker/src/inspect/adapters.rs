//! LoRA adapters of a model in a directory: whether the engine merges all of them, and into what.
//!
//! The engine takes four fields of an adapter's configuration, merges the layers whose names match, and says
//! nothing of the rest. So what passes here is merged whole: every tensor of the file belongs to a layer that
//! the engine merges, in the sizes that it expects, and the configuration asks for nothing that the engine
//! does not know.

mod adapter_config;
mod base;
mod layers;

use std::path::{Path, PathBuf};

use hangar_client::v1::{LoraAdapter, ModelKind, ModelMetadata};

use self::{adapter_config::AdapterConfig, base::BaseMatrices, layers::WEIGHTS};
use super::{files, model_config::ModelConfig};
use crate::failure::Failure;

const CONFIG: &str = "adapter_config.json";
const PICKLED: &str = "adapter_model.bin";

/// Bytes for each number of a layer's weight while an adapter is merged into it: the product of the adapter's
/// matrices and the scaled product in F32, and then the sum in the type of the weight.
const BYTES_TO_MERGE: u64 = 4 + 4 + 4;

/// An adapter that fits the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Adapter {
    /// Its name.
    pub(crate) name: String,
    /// Its weights.
    pub(crate) weights: PathBuf,
    /// Its rank, at least 1.
    pub(crate) rank: u64,
    /// What the product of its matrices is multiplied with.
    pub(crate) scale: f64,
    /// The layers that it changes, by the names that they have in the model's files without ".weight".
    pub(crate) layers: Vec<String>,
    /// The model that it was trained for, as it says itself.
    base: Option<String>,
    bytes: u64,
    /// Numbers of the largest weight that it changes.
    largest: u64,
}

/// Inspects the adapters `given` for the model of this config.json and these weights.
pub(super) fn inspect(
    given: &[LoraAdapter],
    model: &ModelConfig,
    weights: &[PathBuf],
) -> Result<Vec<Adapter>, Failure> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let base = BaseMatrices::read(model, weights)?;
    given
        .iter()
        .map(|adapter| {
            read(adapter, &base).map_err(|failure| Failure {
                message: format!(
                    "The adapter {} cannot be used: {}",
                    adapter.name, failure.message
                ),
                ..failure
            })
        })
        .collect()
}

/// Refuses adapters of a model that takes none.
pub(super) fn refuse(given: &[LoraAdapter], what: &str) -> Result<(), Failure> {
    match given.first() {
        None => Ok(()),
        Some(adapter) => Err(none_into(&adapter.name, what)),
    }
}

fn none_into(name: &str, what: &str) -> Failure {
    Failure::unusable(format!(
        "The adapter {name} cannot be used: the engine merges no adapters into {what}. Leave the adapters \
         out, or load the safetensors of a text model."
    ))
}

/// What the adapters' files take on the disk in bytes.
pub(super) fn file_bytes(adapters: &[Adapter]) -> u64 {
    adapters
        .iter()
        .fold(0, |sum, adapter| sum.saturating_add(adapter.bytes))
}

/// Memory in bytes that is needed for a while to merge them: the numbers of all adapters, and the largest
/// layer that is changed.
pub(super) fn bytes_to_merge(adapters: &[Adapter]) -> u64 {
    let largest = adapters.iter().map(|adapter| adapter.largest).max();
    largest
        .unwrap_or(0)
        .saturating_mul(BYTES_TO_MERGE)
        .saturating_add(file_bytes(adapters))
}

/// Puts what the adapters say into the metadata of a model, which has to be one for text: the engine's loaders
/// of other kinds leave adapters out.
pub(super) fn describe(adapters: &[Adapter], metadata: &mut ModelMetadata) -> Result<(), Failure> {
    let Some(first) = adapters.first() else {
        return Ok(());
    };
    if metadata.kind() != ModelKind::Text {
        return Err(none_into(&first.name, "a model that is not for text"));
    }
    let base = first.base.clone();
    let rank = adapters.iter().map(|adapter| adapter.rank).max();
    metadata.is_lora = true;
    metadata.lora_rank = u32::try_from(rank.unwrap_or(0)).unwrap_or(u32::MAX);
    metadata.adapters = adapters.iter().map(|it| it.name.clone()).collect();
    metadata.base_model = base.unwrap_or_else(|| metadata.model_name.clone());
    metadata.size_bytes = metadata.size_bytes.saturating_add(file_bytes(adapters));
    Ok(())
}

fn read(given: &LoraAdapter, base: &BaseMatrices) -> Result<Adapter, Failure> {
    let directory = Path::new(&given.path);
    if !files::about(directory)?.is_dir() {
        return Err(Failure::unusable(format!(
            "{} is a file. Give the path of the directory with {CONFIG} and {WEIGHTS}.",
            files::name(directory)
        )));
    }
    let weights = directory.join(WEIGHTS);
    check_names(directory, &weights)?;
    let config = AdapterConfig::read(&directory.join(CONFIG))?;
    let bytes = files::about(&weights)?.len();
    let (layers, largest) = layers::read(&weights, &config, base)?;
    Ok(Adapter {
        name: given.name.clone(),
        weights,
        rank: config.rank,
        scale: config.scale,
        layers,
        base: config.base,
        bytes,
        largest,
    })
}

/// Says in plain words which of the two files is not there.
fn check_names(directory: &Path, weights: &Path) -> Result<(), Failure> {
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    if !is_there(&directory.join(CONFIG)) {
        return Err(Failure::unusable(format!(
            "its directory has no {CONFIG}. Give the directory of an adapter in PEFT's format."
        )));
    }
    if is_there(weights) {
        return Ok(());
    }
    Err(Failure::unusable(if is_there(&directory.join(PICKLED)) {
        format!(
            "its weights are pickled ({PICKLED}). Such files can run code when they are read and are \
             refused: save the adapter as safetensors."
        )
    } else {
        format!("its directory has no {WEIGHTS}. Get a complete copy of the adapter.")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, rank: u64) -> Adapter {
        Adapter {
            name: name.into(),
            weights: PathBuf::new(),
            rank,
            scale: 2.0,
            layers: vec![],
            base: None,
            bytes: 100,
            largest: rank * 10,
        }
    }

    #[bounded::test]
    fn adapters_are_reported_in_their_order_with_the_largest_rank() {
        let mut metadata = ModelMetadata {
            model_name: "m".into(),
            kind: ModelKind::Text.into(),
            size_bytes: 5,
            ..ModelMetadata::default()
        };
        describe(&[], &mut metadata).expect("none");
        assert!(!metadata.is_lora && metadata.base_model.is_empty());
        let adapters = [adapter("b", 4), adapter("a", 8)];
        describe(&adapters, &mut metadata).expect("a text model");
        assert_eq!(metadata.adapters, ["b", "a"]);
        assert_eq!((metadata.lora_rank, metadata.size_bytes), (8, 205));
        assert_eq!(
            (metadata.is_lora, metadata.base_model.as_str()),
            (true, "m")
        );
    }

    #[bounded::test]
    fn only_text_models_take_adapters() {
        let mut metadata = ModelMetadata {
            kind: ModelKind::Embedding.into(),
            ..ModelMetadata::default()
        };
        assert!(describe(&[], &mut metadata).is_ok());
        let error = describe(&[adapter("radio", 4)], &mut metadata).expect_err("no text model");
        assert!(error.message.contains("radio"), "{error}");
    }

    #[bounded::test]
    fn the_largest_layer_and_all_files_count() {
        let adapters = [adapter("b", 4), adapter("a", 8)];
        assert_eq!(bytes_to_merge(&adapters), 80 * 12 + 200);
        assert_eq!(bytes_to_merge(&[]), 0);
    }

    #[bounded::test]
    fn a_model_that_takes_no_adapters_is_refused_only_if_there_are_any() {
        assert!(refuse(&[], "GGUF files").is_ok());
        let given = LoraAdapter {
            name: "radio".into(),
            ..LoraAdapter::default()
        };
        let error = refuse(&[given], "GGUF files").expect_err("an adapter");
        for word in ["radio", "GGUF files"] {
            assert!(error.message.contains(word), "{error}");
        }
    }
}
