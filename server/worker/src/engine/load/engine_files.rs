//! Files that were made for the engine, in memory.

use std::{fs::File, io::Write, os::fd::AsRawFd, path::PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::{failure::Failure, inspect::Inspection};

/// Files for the engine. They are there for as long as this is kept.
pub(super) struct EngineFiles {
    /// config.json.
    pub(super) config: PathBuf,
    /// tokenizer.json.
    pub(super) tokenizer: PathBuf,
    /// generation_config.json.
    pub(super) generation: PathBuf,
    /// preprocessor_config.json, for a multimodal model.
    pub(super) preprocessor: Option<PathBuf>,
    /// The config.json of an embedding model's pooling.
    pub(super) pooling: Option<PathBuf>,
    _files: Vec<File>,
}

impl EngineFiles {
    /// The files of a model that was inspected.
    pub(super) fn of(inspection: &Inspection) -> Result<Self, Failure> {
        let text_settings = &inspection.text_settings;
        let generation = text_settings.generation_config().to_string();
        let preprocessor = inspection
            .multimodal
            .as_ref()
            .map(|model| &model.preprocessor);
        let pooling = inspection
            .modules()
            .map(|modules| modules.pooling_config.to_string());
        let mut files = Vec::new();
        let mut put = |name: &str, bytes: &[u8]| {
            let (path, file) = written(name, bytes).map_err(|e| {
                Failure::internal(format!("{name} cannot be handed to the engine: {e}"))
            })?;
            files.push(file);
            Ok::<_, Failure>(path)
        };
        Ok(Self {
            config: put("config.json", &inspection.config)?,
            tokenizer: put("tokenizer.json", &text_settings.tokenizer)?,
            generation: put("generation_config.json", generation.as_bytes())?,
            preprocessor: preprocessor
                .map(|bytes| put("preprocessor_config.json", bytes))
                .transpose()?,
            pooling: pooling
                .map(|text| put("pooling.json", text.as_bytes()))
                .transpose()?,
            _files: files,
        })
    }
}

fn written(name: &str, bytes: &[u8]) -> std::io::Result<(PathBuf, File)> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok((
        PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        file,
    ))
}
