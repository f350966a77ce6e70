//! What a model is made from and how it is to be run.

mod generation_defaults;
mod source;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

pub use generation_defaults::{GenerationDefaults, GenerationSettings, Sampling};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
pub use source::{HubSource, Source};
use strum::IntoStaticStr;

use super::{Adapter, KvCache, Quantization, RequestedDevice, RestartPolicy};

/// What a model is made from and how it is to be run, checked and complete.
///
/// Its serialized form is that of the catalog and of declarations in the configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where the files are.
    pub source: Source,
    /// Name for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// Text for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who made the model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// Languages, as BCP 47 tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// What the model is meant for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Labels to find the model by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Kind; `None`: found out from the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ModelKind>,
    /// Format; `None`: found out from the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Device; `None`: as if it were [`RequestedDevice::Auto`].
    #[serde(
        default,
        deserialize_with = "unless_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub device: Option<RequestedDevice>,
    /// Data type; `None`: chosen for the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<DataType>,
    /// In-situ quantization; `None`: none.
    #[serde(
        default,
        deserialize_with = "unless_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub quantization: Option<Quantization>,
    /// Adapters that are merged into the weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<Adapter>,
    /// Longest sequence in tokens; `None`: as long as the model allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// Requests that run at the same time; `None`: the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Requests that may wait; `None`: the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queue: Option<u32>,
    /// Chat template in place of the model's own; empty: the model's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub chat_template: String,
    /// Path of a tokenizer.json in place of the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// What a request gets where it does not say otherwise.
    #[serde(default)]
    pub generation_defaults: GenerationDefaults,
    /// What the operator knows about the memory that the model needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_hint: Option<MemoryHint>,
    /// Unload after this time without a request; `None`: never.
    #[serde(
        default,
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    pub idle_timeout: Option<Duration>,
    /// Never evicted to make room.
    #[serde(default)]
    pub pinned: bool,
    /// Readiness of the server waits for it, and unloading it needs force.
    #[serde(default)]
    pub required: bool,
    /// Load when the server starts.
    #[serde(default)]
    pub preload: bool,
    /// Higher loads first and is evicted last.
    #[serde(default)]
    pub priority: i32,
    /// A request loads it when it is not loaded.
    #[serde(default)]
    pub load_on_demand: bool,
    /// What happens after a failure; `None`: the default policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Size of the KV cache on a GPU; `None`: for the whole context of each request that runs at the same
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<KvCache>,
}

/// What an engine is built from: what makes a worker, its prepared weights and what it was seen to need those of
/// another engine once it differs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the fields are those of Spec")]
pub struct EngineInputs<'a> {
    pub source: &'a Source,
    pub kind: Option<ModelKind>,
    pub format: Option<Format>,
    pub device: Option<&'a RequestedDevice>,
    pub dtype: Option<DataType>,
    pub quantization: Option<&'a Quantization>,
    pub adapters: &'a [Adapter],
    pub context_length: Option<u32>,
    pub chat_template: &'a str,
    pub tokenizer: Option<&'a Path>,
    pub kv_cache: Option<KvCache>,
}

/// What the operator knows about the memory that a model needs, in bytes; zero where nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryHint {
    /// Host memory.
    pub host_bytes: u64,
    /// Device memory.
    pub device_bytes: u64,
}

/// Kinds of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ModelKind {
    /// Text in, text out.
    Text,
    /// Text, images or audio in, text out.
    Multimodal,
    /// Text in, vectors out.
    Embedding,
    /// Text in, images out.
    Image,
    /// Text in, audio out.
    Speech,
}

/// Formats of model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A directory with safetensors.
    Safetensors,
    /// One GGUF file.
    Gguf,
    /// A directory with UQFF.
    Uqff,
}

/// Data types of weights in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// 32-bit floating point.
    F32,
    /// 16-bit IEEE floating point.
    F16,
    /// 16-bit brain floating point.
    Bf16,
}

/// Strong validator of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag(pub String);

impl Spec {
    /// A spec that says nothing but where the files are.
    pub fn of(source: Source) -> Self {
        Self {
            source,
            display_name: String::new(),
            description: String::new(),
            provider: String::new(),
            languages: Vec::new(),
            capabilities: Vec::new(),
            labels: BTreeMap::new(),
            kind: None,
            format: None,
            device: None,
            dtype: None,
            quantization: None,
            adapters: Vec::new(),
            context_length: None,
            max_concurrency: None,
            max_queue: None,
            chat_template: String::new(),
            tokenizer: None,
            generation_defaults: GenerationDefaults::default(),
            memory_hint: None,
            idle_timeout: None,
            pinned: false,
            required: false,
            preload: false,
            priority: 0,
            load_on_demand: false,
            restart_policy: None,
            kv_cache: None,
        }
    }

    /// Whether an engine that was built from `self` serves `other` too: they differ at most in what holds
    /// from the next request on.
    pub fn builds_the_same_as(&self, other: &Self) -> bool {
        self.engine_inputs() == other.engine_inputs()
    }

    /// What the engine is built from. A field that is new has to be put on one side or the other.
    pub fn engine_inputs(&self) -> EngineInputs<'_> {
        let Self {
            source,
            kind,
            format,
            device,
            dtype,
            quantization,
            adapters,
            context_length,
            chat_template,
            tokenizer,
            kv_cache,
            display_name: _,
            description: _,
            provider: _,
            languages: _,
            capabilities: _,
            labels: _,
            max_concurrency: _,
            max_queue: _,
            generation_defaults: _,
            memory_hint: _,
            idle_timeout: _,
            pinned: _,
            required: _,
            preload: _,
            priority: _,
            load_on_demand: _,
            restart_policy: _,
        } = self;
        EngineInputs {
            source,
            kind: *kind,
            format: *format,
            device: device.as_ref(),
            dtype: *dtype,
            quantization: quantization.as_ref(),
            adapters,
            context_length: *context_length,
            chat_template,
            tokenizer: tokenizer.as_deref(),
            kv_cache: *kv_cache,
        }
    }

    /// This spec without what no engine is built from.
    pub fn for_engine(&self) -> Self {
        let EngineInputs {
            source,
            kind,
            format,
            device,
            dtype,
            quantization,
            adapters,
            context_length,
            chat_template,
            tokenizer,
            kv_cache,
        } = self.engine_inputs();
        Self {
            kind,
            format,
            device: device.cloned(),
            dtype,
            quantization: quantization.cloned(),
            adapters: adapters.to_vec(),
            context_length,
            chat_template: chat_template.to_owned(),
            tokenizer: tokenizer.map(Path::to_path_buf),
            kv_cache,
            ..Self::of(source.clone())
        }
    }

    /// Where the model is to be.
    pub fn requested_device(&self) -> RequestedDevice {
        self.device.clone().unwrap_or_default()
    }

    /// The restart policy in force.
    pub fn restart_policy(&self) -> RestartPolicy {
        self.restart_policy.unwrap_or_default()
    }

    /// Paths of what is read beside the source: tokenizer and adapters.
    pub fn auxiliary_paths(&self) -> impl Iterator<Item = &Path> {
        let adapters = self.adapters.iter().filter_map(Adapter::path);
        self.tokenizer.as_deref().into_iter().chain(adapters)
    }
}

impl ModelKind {
    /// Its name in the catalog and in the configuration file.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What a text says; an empty one says nothing.
fn unless_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(D::Error::custom),
    }
}
