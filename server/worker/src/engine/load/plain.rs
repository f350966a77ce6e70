//! Models of text, from a directory or a GGUF file, as they are stored.

use std::path::{Path, PathBuf};

use mistralrs::core::{
    AdapterPaths, GGUFLoaderBuilder, GGUFSpecificConfig, LocalModelPaths, NormalSpecificConfig,
};

use super::{
    embedding,
    engine_files::EngineFiles,
    pipeline::{SharedPipeline, directory_loader, directory_paths, load_paths},
    target::LoadTarget,
};
use crate::{failure::Failure, inspect::DirectoryFiles};

pub(super) fn load_directory(
    files: &DirectoryFiles,
    engine_files: &EngineFiles,
    target: &LoadTarget,
) -> Result<SharedPipeline, Failure> {
    if let Some(modules) = &files.modules {
        return embedding::load(files, engine_files, modules, target);
    }
    let config = NormalSpecificConfig::default();
    let loader = directory_loader(&files.directory, config, None, &files.adapters)?;
    load_paths(
        &*loader,
        directory_paths(files, engine_files)?,
        target,
        None,
    )
}

pub(super) fn load_gguf(
    file: &Path,
    engine_files: &EngineFiles,
    target: &LoadTarget,
) -> Result<SharedPipeline, Failure> {
    let directory = file.parent().unwrap_or(file).to_string_lossy().into_owned();
    let name = file.to_string_lossy().into_owned();
    let config = GGUFSpecificConfig::default();
    let loader =
        GGUFLoaderBuilder::new(None, None, directory, vec![name], config, false, None).build();
    let paths = LocalModelPaths {
        tokenizer_filename: engine_files.tokenizer.clone(),
        config_filename: PathBuf::new(),
        template_filename: None,
        filenames: vec![file.to_owned()],
        adapter_paths: AdapterPaths::None,
        gen_conf: Some(engine_files.generation.clone()),
        preprocessor_config: None,
        processor_config: None,
        chat_template_json_filename: None,
    };
    load_paths(&*loader, paths, target, None)
}
