//! Arguments that describe a model.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use hangar_client::{
    convert::to_proto_duration,
    v1::{
        self, DemoSource, HuggingFaceSource, KvCache, ModelSpec, RestartMode, kv_cache::Size,
        model_source::Source,
    },
};

use super::kv_cache::kv_cache;

/// A key and a value, as in `team=search`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// How a model is to be run. Single settings go over those of `--spec` or `--file`.
#[derive(Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct SpecArgs {
    /// Directory or GGUF file of the model on the server's machine.
    #[arg(long, conflicts_with_all = ["demo", "hugging_face"])]
    pub(crate) path: Option<String>,
    /// The small model that is built into Hangar.
    #[arg(long, conflicts_with = "hugging_face")]
    pub(crate) demo: bool,
    /// Repository of the Hugging Face hub, for example Qwen/Qwen3-0.6B.
    #[arg(long, visible_alias = "hf", value_name = "REPOSITORY")]
    pub(crate) hugging_face: Option<String>,
    /// Branch, tag or commit of the repository.
    #[arg(long, requires = "hugging_face")]
    pub(crate) revision: Option<String>,
    /// Only this file of the repository; may be given more than once.
    #[arg(long, requires = "hugging_face", value_name = "FILE")]
    pub(crate) hub_file: Vec<String>,
    /// The whole spec as JSON (hangar.v1.ModelSpec).
    #[arg(long, value_name = "JSON", conflicts_with = "file")]
    pub(crate) spec: Option<String>,
    /// File with the whole spec, as JSON or as TOML with the same names; "-" is standard input.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Name for people.
    #[arg(long, value_name = "TEXT")]
    pub(crate) display_name: Option<String>,
    /// Free text for people.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Label to find the model by; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) label: Vec<Label>,
    /// Kind of the model; found out from its files where it is not given.
    #[arg(long, value_enum)]
    pub(crate) kind: Option<Kind>,
    /// Device to load on: auto, cpu, cuda, cuda:ORDINAL or cuda:UUID.
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// Data type of the weights in memory.
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<DataType>,
    /// In-situ quantization while loading, for example q4k.
    #[arg(long, value_name = "TYPE")]
    pub(crate) quantization: Option<String>,
    /// LoRA adapter that is merged in while loading: a name and a directory on the server's machine, or "demo"
    /// for the one that is built in for the demo model; may be given more than once.
    #[arg(long, value_name = "NAME=PATH", value_parser = adapter)]
    pub(crate) adapter: Vec<v1::LoraAdapter>,
    /// Without the adapters that the spec has so far.
    #[arg(long)]
    pub(crate) no_adapters: bool,
    /// Longest sequence of prompt and answer in tokens.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context_length: Option<u32>,
    /// How many requests run at the same time.
    #[arg(long, value_name = "N")]
    pub(crate) max_concurrency: Option<u32>,
    /// Size of the KV cache on a GPU: bytes such as 4GiB, or a share of its memory such as 30%.
    #[arg(long, value_name = "SIZE", value_parser = kv_cache)]
    pub(crate) kv_cache: Option<Size>,
    /// How many further requests may wait.
    #[arg(long, value_name = "N")]
    pub(crate) max_queue: Option<u32>,
    /// Temperature where a request gives none.
    #[arg(long, value_name = "T")]
    pub(crate) default_temperature: Option<f32>,
    /// Longest answer in tokens where a request does not say.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) default_max_tokens: Option<u32>,
    /// Unload after this time without a request, for example 10m.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub(crate) idle_timeout: Option<Duration>,
    /// Never evict the model to make room.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) pinned: Option<bool>,
    /// Readiness of the server waits for the model, and unloading it needs force.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) required: Option<bool>,
    /// Load the model when the server starts.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) preload: Option<bool>,
    /// A request for the model loads it when it is not loaded.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) load_on_demand: Option<bool>,
    /// Higher loads first and is evicted last.
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) priority: Option<i32>,
    /// When to restart the model's worker.
    #[arg(long, value_enum)]
    pub(crate) restart: Option<Restart>,
}

/// Data type of the weights in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataType {
    /// 32-bit floating point.
    F32,
    /// 16-bit IEEE floating point.
    F16,
    /// 16-bit brain floating point.
    Bf16,
}

/// Kind of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
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

/// When a worker is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Restart {
    /// Never.
    Never,
    /// After it died or hung, or a load failed in a way that may pass.
    OnFailure,
    /// After any failure.
    Always,
}

/// Reads `KEY=VALUE`; the value of `KEY` alone is empty.
pub(crate) fn label(text: &str) -> Result<Label, String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err("a label has a key, as in team=search".to_owned());
    }
    Ok(Label {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

impl SpecArgs {
    /// Puts the single settings over `spec`.
    pub(crate) fn apply(&self, spec: &mut ModelSpec) {
        if let Some(source) = self.source() {
            spec.source = Some(source.into());
        }
        for label in &self.label {
            spec.labels.insert(label.key.clone(), label.value.clone());
        }
        self.apply_adapters(spec);
        set(&mut spec.display_name, self.display_name.clone());
        set(&mut spec.description, self.description.clone());
        set(&mut spec.device, self.device.clone());
        set(&mut spec.quantization, self.quantization.clone());
        set(&mut spec.context_length, self.context_length);
        set(&mut spec.max_concurrency, self.max_concurrency);
        let kv_cache = self.kv_cache.map(|size| KvCache { size: Some(size) });
        set(&mut spec.kv_cache, kv_cache.map(Some));
        set(&mut spec.max_queue, self.max_queue.map(Some));
        let idle_timeout = self.idle_timeout.map(to_proto_duration);
        set(&mut spec.idle_timeout, idle_timeout.map(Some));
        set(&mut spec.pinned, self.pinned);
        set(&mut spec.required, self.required);
        set(&mut spec.preload, self.preload);
        set(&mut spec.load_on_demand, self.load_on_demand);
        set(&mut spec.priority, self.priority);
        if let Some(kind) = self.kind {
            spec.set_kind(kind.into());
        }
        if let Some(dtype) = self.dtype {
            spec.set_dtype(dtype.into());
        }
        if let Some(mode) = self.restart.map(RestartMode::from) {
            spec.restart_policy.get_or_insert_default().set_mode(mode);
        }
        if let Some(temperature) = self.default_temperature {
            let defaults = spec.generation_defaults.get_or_insert_default();
            defaults.sampling.get_or_insert_default().temperature = Some(temperature);
        }
        if let Some(tokens) = self.default_max_tokens {
            spec.generation_defaults.get_or_insert_default().max_tokens = tokens;
        }
    }

    /// Adds adapters; one takes the place of another of its name.
    fn apply_adapters(&self, spec: &mut ModelSpec) {
        if self.no_adapters {
            spec.adapters.clear();
        }
        for adapter in &self.adapter {
            match spec.adapters.iter_mut().find(|it| it.name == adapter.name) {
                Some(same) => same.clone_from(adapter),
                None => spec.adapters.push(adapter.clone()),
            }
        }
    }

    fn source(&self) -> Option<Source> {
        if self.demo {
            return Some(Source::Demo(DemoSource {}));
        }
        if let Some(repository) = &self.hugging_face {
            return Some(Source::HuggingFace(HuggingFaceSource {
                repository: repository.clone(),
                revision: self.revision.clone().unwrap_or_default(),
                files: self.hub_file.clone(),
            }));
        }
        self.path.clone().map(Source::Path)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Reads `NAME=PATH` or `NAME=demo`.
fn adapter(text: &str) -> Result<v1::LoraAdapter, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(match path {
            "demo" => v1::LoraAdapter {
                name: name.to_owned(),
                demo: Some(v1::DemoSource {}),
                ..Default::default()
            },
            path => v1::LoraAdapter {
                name: name.to_owned(),
                path: path.to_owned(),
                ..Default::default()
            },
        }),
        _ => Err("an adapter has a name and a path, as in legal=/models/legal-lora".to_owned()),
    }
}

impl From<DataType> for v1::DataType {
    fn from(dtype: DataType) -> Self {
        match dtype {
            DataType::F32 => Self::F32,
            DataType::F16 => Self::F16,
            DataType::Bf16 => Self::Bf16,
        }
    }
}

impl From<Kind> for v1::ModelKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Multimodal => Self::Multimodal,
            Kind::Embedding => Self::Embedding,
            Kind::Image => Self::Image,
            Kind::Speech => Self::Speech,
        }
    }
}

impl From<Restart> for v1::RestartMode {
    fn from(restart: Restart) -> Self {
        match restart {
            Restart::Never => Self::Never,
            Restart::OnFailure => Self::OnFailure,
            Restart::Always => Self::Always,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::FromArgMatches;
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::json;

    /// Fields of a spec that only `--spec` and `--file` give.
    const WITHOUT_FLAG: [&str; 7] = [
        "provider",
        "languages",
        "capabilities",
        "format",
        "chatTemplate",
        "tokenizer",
        "memoryHint",
    ];

    /// The fields of a spec, as JSON has them.
    fn fields() -> BTreeSet<String> {
        let pool = DescriptorPool::decode(v1::FILE_DESCRIPTOR_SET).expect("descriptors");
        let spec = pool.get_message_by_name("hangar.v1.ModelSpec").expect("it");
        spec.fields()
            .map(|field| field.json_name().to_owned())
            .collect()
    }

    /// The fields of a spec that the flag with this value sets; nothing where it does not take the value.
    fn set_by(argument: &str) -> Option<BTreeSet<String>> {
        let command = SpecArgs::augment_args(clap::Command::new("x"));
        let matches = command.try_get_matches_from(["x", argument]).ok()?;
        let args = SpecArgs::from_arg_matches(&matches).ok()?;
        let mut spec = ModelSpec::default();
        args.apply(&mut spec);
        let json = json::to_string("hangar.v1.ModelSpec", &spec, false).ok()?;
        let json: serde_json::Value = serde_json::from_str(&json).ok()?;
        Some(json.as_object()?.keys().cloned().collect())
    }

    #[bounded::test]
    fn every_flag_sets_a_field_and_every_field_has_a_flag_or_is_known_to_have_none() {
        // Whole specs, and what only says more of another flag.
        let others = ["spec", "file", "revision", "hub-file", "no-adapters"];
        let command = SpecArgs::augment_args(clap::Command::new("x"));
        let flags = command.get_arguments().filter_map(clap::Arg::get_long);
        let mut left: BTreeSet<String> = fields();
        for flag in flags.filter(|flag| !others.contains(flag)) {
            let values = [
                "=true", "=1", "=0.5", "=10m", "=a=/b", "=text", "=f16", "=never", "",
            ];
            let taken = values.map(|value| set_by(&format!("--{flag}{value}")));
            let set: BTreeSet<String> = taken.into_iter().flatten().flatten().collect();
            assert!(!set.is_empty(), "--{flag} does nothing");
            left.retain(|field| !set.contains(field));
        }
        let without = WITHOUT_FLAG.map(str::to_owned).into_iter().collect();
        assert_eq!(left, without, "a flag, or a place in the list");
    }
}
