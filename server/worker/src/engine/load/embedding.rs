//! Loads an embedding model.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use mistralrs::core::{
    AdapterPaths, EmbeddingLoaderBuilder, EmbeddingModelPaths, EmbeddingSpecificConfig,
};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;

use super::{Loaded, load_paths, target::Target};
use crate::failure::Failure;
use crate::inspect::{DirectoryFiles, Modules};

/// A config.json for the engine.
struct Config {
    path: PathBuf,
    /// What the path leads to, if it is no file of the model.
    _memory: Option<File>,
}

/// Loads the weights in these files with these modules behind them.
pub(super) fn load(
    files: &DirectoryFiles,
    modules: &Modules,
    target: &Target,
) -> Result<Loaded, Failure> {
    let name = files.directory.to_string_lossy().into_owned();
    let loader = EmbeddingLoaderBuilder::new(EmbeddingSpecificConfig::default(), None, Some(name))
        // Nothing is looked for there, but without it the engine chooses a directory by itself.
        .hf_cache_path(files.directory.clone())
        .build(None);
    // The engine keeps the name of its own type to itself, but reads it.
    let steps = serde_json::to_value(&modules.steps)
        .and_then(serde_json::from_value)
        .map_err(|e| Failure::internal(format!("the modules cannot be handed over: {e}")))?;
    let config = Config::of(files)
        .map_err(|e| Failure::internal(format!("config.json cannot be handed over: {e}")))?;
    let paths = EmbeddingModelPaths {
        tokenizer_filename: files.tokenizer.clone(),
        config_filename: config.path.clone(),
        modules: steps,
        filenames: files.weights.clone(),
        adapter_paths: AdapterPaths::None,
    };
    load_paths(&*loader, paths, target, None)
}

impl Config {
    /// The model's own, but for a width of a window, which the engine takes for a distance.
    fn of(files: &DirectoryFiles) -> std::io::Result<Self> {
        let mut config: Value = serde_json::from_slice(&std::fs::read(&files.config)?)?;
        if !narrow(&mut config) {
            return Ok(Self {
                path: files.config.clone(),
                _memory: None,
            });
        }
        let mut memory = File::from(memfd_create("config.json", MemfdFlags::CLOEXEC)?);
        memory.write_all(&serde_json::to_vec(&config)?)?;
        Ok(Self {
            path: PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd())),
            _memory: Some(memory),
        })
    }
}

/// Makes a distance of the width of a window to both sides. Says whether there was one.
fn narrow(config: &mut Value) -> bool {
    if config["use_bidirectional_attention"] != Value::Bool(true) {
        return false;
    }
    let Some(width) = config["sliding_window"].as_u64() else {
        return false;
    };
    config["sliding_window"] = (width / 2 + 1).into();
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_window_to_both_sides_is_half_as_wide_on_each() {
        let mut both = json!({"use_bidirectional_attention": true, "sliding_window": 512});
        assert!(narrow(&mut both));
        assert_eq!(both["sliding_window"], 257);
        for other in [
            json!({"sliding_window": 512}),
            json!({"use_bidirectional_attention": true}),
            json!({}),
        ] {
            assert!(!narrow(&mut other.clone()), "{other}");
        }
    }
}
