//! Which files a model in a directory has.

use std::path::PathBuf;

use super::{adapters::Adapter, modules::Modules};

/// Files of a model in a directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct DirectoryFiles {
    /// The directory.
    pub(crate) directory: PathBuf,
    /// config.json.
    pub(crate) config: PathBuf,
    /// tokenizer.json.
    pub(crate) tokenizer: PathBuf,
    /// tokenizer_config.json.
    pub(crate) tokenizer_config: Option<PathBuf>,
    /// added_tokens.json.
    pub(crate) added_tokens: Option<PathBuf>,
    /// special_tokens_map.json.
    pub(crate) special_tokens_map: Option<PathBuf>,
    /// chat_template.jinja.
    pub(crate) template: Option<PathBuf>,
    /// chat_template.json.
    pub(crate) template_json: Option<PathBuf>,
    /// generation_config.json.
    pub(crate) generation_config: Option<PathBuf>,
    /// The weights, in order.
    pub(crate) weights: Vec<PathBuf>,
    /// What is merged into them, in order.
    pub(crate) adapters: Vec<Adapter>,
    /// What makes a vector of the transformer's output, for an embedding model.
    pub(crate) modules: Option<Modules>,
}
