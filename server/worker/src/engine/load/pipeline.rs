//! The engine's loaders, and what they load.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
};

use mistralrs::core::{
    DefaultSchedulerMethod, DeviceMapSetting, IsqType, Loader, LocalModelPaths, ModelPaths,
    NormalLoaderBuilder, NormalSpecificConfig, Pipeline, SchedulerConfig,
};

use super::{adapters, engine_files::EngineFiles, target::LoadTarget};
use crate::{
    failure::{Failure, is_out_of_memory},
    inspect::{Adapter, DirectoryFiles},
    prepared::EntryDraft,
};

/// The engine's model as it was loaded, before its engine runs.
pub(super) type SharedPipeline = Arc<tokio::sync::Mutex<dyn Pipeline + Send + Sync>>;

/// What the engine has loaded, and where it had it from.
pub(super) struct LoadedPipeline {
    pub(super) model: SharedPipeline,
    /// They were read prepared.
    pub(super) prepared: bool,
    pub(super) draft: Option<EntryDraft>,
}

/// The loader of a directory.
pub(super) fn directory_loader(
    directory: &Path,
    config: NormalSpecificConfig,
    tokenizer: Option<&Path>,
    adapters: &[Adapter],
) -> Result<Box<dyn Loader>, Failure> {
    let name = directory.to_string_lossy().into_owned();
    let tokenizer = tokenizer.map(|path| path.to_string_lossy().into_owned());
    let mut builder = NormalLoaderBuilder::new(config, None, tokenizer, Some(name), false, None);
    if !adapters.is_empty() {
        builder = builder.with_lora(adapters::names(adapters));
    }
    builder
        // Nothing is looked for there, but without it the engine chooses a directory by itself.
        .hf_cache_path(directory.to_owned())
        .build(None)
        .map_err(|e| refused(&format!("{e:#}")))
}

/// The files of a directory.
pub(super) fn directory_paths(
    files: &DirectoryFiles,
    engine_files: &EngineFiles,
) -> Result<LocalModelPaths<PathBuf>, Failure> {
    Ok(LocalModelPaths {
        tokenizer_filename: engine_files.tokenizer.clone(),
        config_filename: engine_files.config.clone(),
        template_filename: None,
        filenames: files.weights.clone(),
        adapter_paths: adapters::paths(&files.adapters)?,
        gen_conf: Some(engine_files.generation.clone()),
        preprocessor_config: None,
        processor_config: None,
        chat_template_json_filename: None,
    })
}

/// Loads what is at these paths.
pub(super) fn load_paths(
    loader: &dyn Loader,
    paths: impl ModelPaths + 'static,
    target: &LoadTarget,
    quantization: Option<IsqType>,
) -> Result<SharedPipeline, Failure> {
    let paths: Box<dyn ModelPaths> = Box::new(paths);
    loader
        .load_model_from_path(
            &paths,
            &target.dtype,
            &target.device,
            true,
            // All on this device: what does not fit there fails, and is not computed elsewhere.
            DeviceMapSetting::dummy(),
            quantization,
            target.paged,
        )
        .map_err(|e| refused(&format!("{e:#}")))
}

impl From<SharedPipeline> for LoadedPipeline {
    fn from(model: SharedPipeline) -> Self {
        Self {
            model,
            prepared: false,
            draft: None,
        }
    }
}

/// How the loaded model's requests are scheduled, at most `concurrency` of them at a time; and how many blocks
/// its cache has, if it has any.
pub(super) fn scheduler(
    loaded: &SharedPipeline,
    concurrency: u32,
) -> Result<(SchedulerConfig, Option<u32>), Failure> {
    let pipeline = loaded
        .try_lock()
        .map_err(|_| Failure::internal("the loaded model is in use"))?;
    let concurrency = concurrency.max(1) as usize;
    let Some(config) = pipeline.get_metadata().cache_config.clone() else {
        let concurrency = NonZeroUsize::new(concurrency).unwrap_or(NonZeroUsize::MIN);
        let method = DefaultSchedulerMethod::Fixed(concurrency);
        return Ok((SchedulerConfig::DefaultScheduler { method }, None));
    };
    let blocks = u32::try_from(config.num_gpu_blocks).unwrap_or(u32::MAX);
    let scheduler = SchedulerConfig::PagedAttentionMeta {
        max_num_seqs: concurrency,
        config,
    };
    Ok((scheduler, Some(blocks)))
}

/// Why the engine has not loaded the model, by its words.
pub(super) fn refused(why: &str) -> Failure {
    let why = why.trim().trim_end_matches('.');
    if is_out_of_memory(why) {
        return Failure::memory(format!(
            "The GPU's memory is not enough to load the model: {why}. Unload other models from it, or give \
             this one a smaller kv_cache or context_length, or a quantization."
        ));
    }
    Failure::unusable(format!(
        "The engine cannot load the model: {why}. Check that config.json, tokenizer and weights belong \
         together and are complete."
    ))
}
