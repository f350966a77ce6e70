//! What a model is made from and how it is to be run.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::RestartPolicy;

/// What a model is made from and how it is to be run, checked and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Where the files are.
    pub source: Source,
    /// Name for people.
    pub display_name: String,
    /// Text for people.
    pub description: String,
    /// Who made the model.
    pub provider: String,
    /// Languages, as BCP 47 tags.
    pub languages: Vec<String>,
    /// What the model is meant for.
    pub capabilities: Vec<String>,
    /// Labels to find the model by.
    pub labels: BTreeMap<String, String>,
    /// Kind; `None`: found out from the files.
    pub kind: Option<Kind>,
    /// Format; `None`: found out from the files.
    pub format: Option<Format>,
    /// Device as it was given: empty, "auto" or "cpu".
    pub device: String,
    /// Data type; `None`: chosen for the device.
    pub dtype: Option<DataType>,
    /// Longest sequence in tokens; `None`: as long as the model allows.
    pub context_length: Option<u32>,
    /// Requests that run at the same time; `None`: the server's default.
    pub max_concurrency: Option<u32>,
    /// Requests that may wait; `None`: the server's default.
    pub max_queue: Option<u32>,
    /// What a request gets where it does not say otherwise.
    pub generation_defaults: GenerationDefaults,
    /// What happens after a failure; `None`: the default policy.
    pub restart_policy: Option<RestartPolicy>,
}

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory or a GGUF file.
    Path(PathBuf),
    /// The model that is built into the worker.
    Demo,
}

/// Kinds of models that a worker can host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text in, text out.
    Text,
}

/// Formats of model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A directory with safetensors.
    Safetensors,
    /// One GGUF file.
    Gguf,
}

/// Data types of weights in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// 32-bit floating point.
    F32,
    /// 16-bit IEEE floating point.
    F16,
    /// 16-bit brain floating point.
    Bf16,
}

/// What a request gets where it does not say otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Sampling parameters.
    pub sampling: Sampling,
    /// Longest answer in tokens.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

/// How the next token is chosen; each in the range that `hangar.v1.Sampling` gives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of hangar.v1.Sampling")]
pub struct Sampling {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<u32>,
    pub min_p: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub repetition_penalty: Option<f32>,
}

/// Strong validator of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag(pub String);

// === impl Spec ===

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
            device: String::new(),
            dtype: None,
            context_length: None,
            max_concurrency: None,
            max_queue: None,
            generation_defaults: GenerationDefaults::default(),
            restart_policy: None,
        }
    }

    /// The restart policy in force.
    pub fn restart_policy(&self) -> RestartPolicy {
        self.restart_policy.unwrap_or_default()
    }
}

// === impl Source ===

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Demo => f.write_str("built-in demo model"),
        }
    }
}

// === impl Sampling ===

impl Sampling {
    /// These parameters, with those of `fallback` where they say nothing.
    #[must_use]
    pub fn or(self, fallback: Self) -> Self {
        Self {
            temperature: self.temperature.or(fallback.temperature),
            top_p: self.top_p.or(fallback.top_p),
            top_k: self.top_k.or(fallback.top_k),
            min_p: self.min_p.or(fallback.min_p),
            frequency_penalty: self.frequency_penalty.or(fallback.frequency_penalty),
            presence_penalty: self.presence_penalty.or(fallback.presence_penalty),
            repetition_penalty: self.repetition_penalty.or(fallback.repetition_penalty),
        }
    }
}
