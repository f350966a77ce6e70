//! Loads an embedding model.

use mistralrs::core::{
    AdapterPaths, EmbeddingLoaderBuilder, EmbeddingModelPaths, EmbeddingSpecificConfig,
};

use super::{
    engine_files::EngineFiles,
    pipeline::{SharedPipeline, load_paths},
    target::LoadTarget,
};
use crate::{
    failure::Failure,
    inspect::{DirectoryFiles, Module, Modules},
};

/// Loads the weights in these files with these modules behind them.
pub(super) fn load(
    files: &DirectoryFiles,
    engine_files: &EngineFiles,
    modules: &Modules,
    target: &LoadTarget,
) -> Result<SharedPipeline, Failure> {
    let name = files.directory.to_string_lossy().into_owned();
    let loader = EmbeddingLoaderBuilder::new(EmbeddingSpecificConfig::default(), None, Some(name))
        // Nothing is looked for there, but without it the engine chooses a directory by itself.
        .hf_cache_path(files.directory.clone())
        .build(None);
    let mut steps = modules.steps.clone();
    for step in &mut steps {
        if let (Module::Pooling { config, .. }, Some(pooling)) = (step, &engine_files.pooling) {
            config.clone_from(pooling);
        }
    }
    // The engine keeps the name of its own type to itself, but reads it.
    let steps = serde_json::to_value(&steps)
        .and_then(serde_json::from_value)
        .map_err(|e| Failure::internal(format!("the modules cannot be handed over: {e}")))?;
    let paths = EmbeddingModelPaths {
        tokenizer_filename: engine_files.tokenizer.clone(),
        config_filename: engine_files.config.clone(),
        modules: steps,
        filenames: files.weights.clone(),
        adapter_paths: AdapterPaths::None,
    };
    load_paths(&*loader, paths, target, None)
}
