//! Loads a model that takes more than text.

use std::path::Path;

use mistralrs::core::{
    IsqType, Loader, LocalModelPaths, MultimodalLoaderBuilder, MultimodalLoaderType,
    MultimodalSpecificConfig, Topology,
};

use super::{
    engine_files::EngineFiles,
    pipeline::{SharedPipeline, directory_paths, load_paths},
    target::LoadTarget,
};
use crate::{
    failure::Failure,
    inspect::{DirectoryFiles, Multimodal},
};

/// Names of the matrices in the layers of a text model. The engine's own list has them only as they are named beside an
/// encoder, behind `language_model.`.
const TEXT_MATRICES: &str = r"^model\.layers\.\d+\.(self_attn|mlp)\.[a-z]+_proj\.weight$";

/// Loads the model in these files, quantized if that is asked for.
pub(super) fn load(
    files: &DirectoryFiles,
    engine_files: &EngineFiles,
    model: &Multimodal,
    target: &LoadTarget,
    quantization: Option<IsqType>,
) -> Result<SharedPipeline, Failure> {
    let name = files.directory.to_string_lossy().into_owned();
    let verbatim = model.verbatim.to_string_lossy().into_owned();
    let config = MultimodalSpecificConfig::default();
    let loader = MultimodalLoaderBuilder::new(config, None, None, Some(name), Some(verbatim))
        // Nothing is looked for there, but without it the engine chooses a directory by itself.
        .hf_cache_path(files.directory.clone())
        .build(Some(model.loader.clone()));
    let paths = LocalModelPaths {
        preprocessor_config: engine_files.preprocessor.clone(),
        processor_config: model.processor_config.clone(),
        ..directory_paths(files, engine_files)?
    };
    load_paths(&*loader, paths, target, quantization)
}

/// Loads a text model of which the engine has the loader here.
pub(super) fn load_text(
    files: &DirectoryFiles,
    engine_files: &EngineFiles,
    target: &LoadTarget,
) -> Result<SharedPipeline, Failure> {
    let loader = text_loader(&files.directory, MultimodalSpecificConfig::default(), None);
    load_paths(
        &*loader,
        directory_paths(files, engine_files)?,
        target,
        None,
    )
}

/// The loader of such a text model in this directory.
pub(super) fn text_loader(
    directory: &Path,
    config: MultimodalSpecificConfig,
    tokenizer: Option<&Path>,
) -> Box<dyn Loader> {
    let name = directory.to_string_lossy().into_owned();
    let tokenizer = tokenizer.map(|path| path.to_string_lossy().into_owned());
    MultimodalLoaderBuilder::new(config, None, tokenizer, Some(name), None)
        .hf_cache_path(directory.to_owned())
        .build(Some(MultimodalLoaderType::Gemma3))
}

/// Has the engine quantize all matrices of such a text model to that, and not only its head.
pub(super) fn text_topology(to: IsqType) -> Result<Topology, Failure> {
    let layers = format!("'/{TEXT_MATRICES}/':\n  isq: {to}\n");
    Topology::from_str(&layers).map_err(|e| Failure::internal(format!("{e:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn all_matrices_of_a_text_model_are_quantized_and_nothing_else_of_its_layers() {
        for to in [IsqType::Q4K, IsqType::Q8_0] {
            let topology = text_topology(to).expect("a topology");
            let quantized = |name: &str| {
                let found = topology.match_for_name(&format!("model.{name}.weight"));
                found.and_then(|layer| layer.isq)
            };
            for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
                let name = format!("layers.17.self_attn.{name}");
                assert_eq!(quantized(&name), Some(to), "{name}");
            }
            for name in ["gate_proj", "up_proj", "down_proj"] {
                let name = format!("layers.0.mlp.{name}");
                assert_eq!(quantized(&name), Some(to), "{name}");
            }
            for name in ["layers.0.self_attn.q_norm", "norm", "embed_tokens"] {
                assert_eq!(quantized(name), None, "{name}");
            }
            // What is said of a layer by its number would be quantized a second time, after the load.
            assert!(!topology.requires_post_quantization());
        }
    }
}
