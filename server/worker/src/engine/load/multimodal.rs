//! Loads a model that takes more than text.

use mistralrs::core::{
    IsqType, LocalModelPaths, MultimodalLoaderBuilder, MultimodalLoaderType,
    MultimodalSpecificConfig,
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
    quantization: Option<IsqType>,
) -> Result<SharedPipeline, Failure> {
    let name = files.directory.to_string_lossy().into_owned();
    let config = MultimodalSpecificConfig::default();
    let loader = MultimodalLoaderBuilder::new(config, None, None, Some(name), None)
        .hf_cache_path(files.directory.clone())
        .build(Some(MultimodalLoaderType::Gemma3));
    load_paths(
        &*loader,
        directory_paths(files, engine_files)?,
        target,
        quantization,
    )
}
