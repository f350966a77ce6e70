//! A directory with safetensors: which of its files make up the model, and whether they fit together.

use std::{collections::BTreeSet, path::Path};

use hangar_client::v1::{DataType, ModelFormat, ModelKind, ModelMetadata};
use hangar_worker_protocol::v1::{ProgressMeasure, WorkerConfig};

use super::{
    adapters,
    architecture::Limits,
    device_plan::DevicePlan,
    directory_files::DirectoryFiles,
    embedding, files,
    inspection::{Files, InSituQuantization, Inspection},
    lm_head,
    memory_need::MemoryNeed,
    model_config::ModelConfig,
    modules::Modules,
    multimodal::{self, Multimodal},
    required_tensors, shards,
    spec::{check_kind_found, choose_context_length, choose_dtype, uqff},
    text_settings::TextSettings,
    tokenizer,
    weights::{Weights, WeightsLayout},
};
use crate::{
    device::TargetDevice, failure::Failure, prepared::Prepared, quantization::Quantization,
};

/// More entries than a model's directory has.
const MAX_ENTRIES: usize = 10_000;

/// What the files of a directory say, before it is known where and how the model is to lie.
struct DirectoryInspection {
    name: String,
    files: DirectoryFiles,
    text_settings: TextSettings,
    model: ModelConfig,
    multimodal: Option<Multimodal>,
    /// What the model is to those who ask it; it may be loaded as one of another kind.
    kind: ModelKind,
    quantization: Option<Quantization>,
    context_length: Option<u32>,
    weights: Weights,
}

/// Inspects the directory at `path`.
pub(super) fn inspect(
    config: &WorkerConfig,
    path: &Path,
    device: TargetDevice,
) -> Result<Inspection, Failure> {
    let found = DirectoryInspection::read(config, path, &device)?;
    let dtype = choose_dtype(
        config.spec().dtype(),
        &device,
        found.weights.stored_as_f32(),
    );
    let dtype = embedding::dtype(config.spec().dtype(), found.files.modules.as_ref(), dtype)?;
    let need = MemoryNeed {
        context_is_requested: config.spec().context_length > 0,
        ..found.need(dtype)?
    };
    let caches = found.kind != ModelKind::Embedding;
    let device_plan = DevicePlan::plan(config, device, &need, caches)?;
    let context_length = device_plan.context(found.context_length);
    let metadata = found.metadata(dtype, context_length, &device_plan)?;
    let quantization = found.in_situ(config, dtype);
    let weight_bytes = found.bytes_to_read(quantization.as_ref());
    Ok(Inspection {
        vocabulary_size: found.vocabulary_size(),
        files: Files::Directory(Box::new(found.files)),
        config: serde_json::to_vec(&found.model.handed).unwrap_or_default(),
        text_settings: found.text_settings,
        limits: found.model.limits,
        kind: found.kind,
        multimodal: found.multimodal,
        dtype,
        quantization,
        context_length,
        metadata,
        weight_bytes,
        measure: ProgressMeasure::RssFile,
        need_host_bytes: need.on_the_host(&device_plan.device),
        roomy_host_bytes: need.on_the_host_with_room(&device_plan.device),
        sequence_need: need.sequence(&device_plan.device),
        device_plan,
        chat_template: config.spec().chat_template.clone(),
    })
}

impl DirectoryInspection {
    /// Reads the files, and checks that they fit together and are what the spec asks for.
    fn read(config: &WorkerConfig, path: &Path, device: &TargetDevice) -> Result<Self, Failure> {
        let names = list(path)?;
        check_what_it_is(&names)?;
        let wanted = embedding::kind(config.spec().kind(), &names)?;
        let mut files = find(config, path, &names)?;
        let (mut text_settings, made) = TextSettings::read(&files, wanted != ModelKind::Embedding)?;
        let own_head = lm_head::untied_head(&files.weights)?;
        let mut model = ModelConfig::read(&files.config, wanted, own_head)?;
        let kind = model.kind;
        model.limits = limits(model.limits, device);
        text_settings.resolve_eos_tokens(
            &model.eos_token_ids,
            &made,
            model.limits.max_prefill.is_none(),
        );
        text_settings.add_bos_to_chats = kind == ModelKind::Multimodal;
        if kind != ModelKind::Embedding {
            tokenizer::check_decoder(&files.tokenizer, &made)?;
        }
        let multimodal = multimodal::inspect(config, &model, &files, &text_settings, &made)?;
        let served = served_kind(kind, multimodal.as_ref());
        check_kind_found(config.spec().kind(), served, &model.architecture)?;
        let quantization = quantization(&config.spec().quantization)?;
        files.adapters = adapters::inspect(&config.spec().adapters, &model, &files.weights)?;
        if kind == ModelKind::Embedding {
            files.modules = Some(modules(path, &mut model, &text_settings)?);
        }
        let context_length =
            choose_context_length(config.spec().context_length, model.context_length)?;
        if kind == ModelKind::Embedding {
            embedding::check(&config.spec().quantization, context_length)?;
        }
        let dense = files.modules.iter().flat_map(Modules::weights);
        let all_weights: Vec<_> = files.weights.iter().chain(dense).cloned().collect();
        let weights = Weights::read(&all_weights, quantization, WeightsLayout::of(&model))?;
        embedding::check_names(kind, &weights)?;
        required_tensors::check(&weights.names, &model)?;
        Ok(Self {
            name: files::name(path),
            files,
            text_settings,
            model,
            multimodal,
            kind: served,
            quantization,
            context_length,
            weights,
        })
    }

    fn vocabulary_size(&self) -> Option<u32> {
        self.weights.vocabulary.or(self.model.vocabulary_size)
    }

    /// What the model needs in memory, its numbers being of this type.
    fn need(&self, dtype: DataType) -> Result<MemoryNeed, Failure> {
        let bytes_per_element = bytes_of(dtype);
        let Self { model, weights, .. } = self;
        Ok(MemoryNeed {
            weights: weights.bytes_in_memory(bytes_per_element),
            quantizing: weights.bytes_while_quantized(bytes_per_element),
            merging: adapters::bytes_to_merge(&self.files.adapters),
            shape: model.shape,
            bytes_per_element,
            bytes_while_computed: match self.quantization {
                // Products with quantized weights are of F32.
                Some(_) => bytes_of(DataType::F32),
                None => bytes_per_element,
            },
            context: self.context_length.unwrap_or(0).into(),
            context_is_requested: false,
            trained_context: model.context_length.unwrap_or(0).into(),
            vocabulary: self.vocabulary_size().unwrap_or(0).into(),
            tokenizer: files::about(&self.files.tokenizer)?.len(),
            mask_bytes_per_pair: (model.kind == ModelKind::Embedding)
                .then(|| embedding::mask_bytes(&model.architecture, bytes_per_element)),
            images: self.multimodal.as_ref().map_or(0, |model| model.need),
        })
    }

    fn metadata(
        &self,
        dtype: DataType,
        context_length: Option<u32>,
        device_plan: &DevicePlan,
    ) -> Result<ModelMetadata, Failure> {
        let Self { model, files, .. } = self;
        let kind = self.kind;
        let quantization = self.quantization.map(Quantization::name);
        let mut metadata = ModelMetadata {
            architecture: model.architecture.clone(),
            model_name: model.name.as_ref().unwrap_or(&self.name).clone(),
            tokenizer_id: self.text_settings.class.clone().unwrap_or_default(),
            kind: kind.into(),
            input_modalities: modalities(kind),
            output_modalities: vec![match kind {
                ModelKind::Embedding => "embedding".into(),
                _ => "text".into(),
            }],
            embedding_size: files.modules.as_ref().map_or(0, |modules| modules.size),
            parameter_count: self.weights.parameters,
            dtype: dtype.into(),
            quantization: quantization.unwrap_or_default(),
            context_length: context_length.unwrap_or(0),
            trained_context_length: model.context_length.unwrap_or(0),
            vocabulary_size: self.vocabulary_size().unwrap_or(0),
            format: ModelFormat::Safetensors.into(),
            size_bytes: self.weights.file_bytes,
            device: device_plan.device.name(),
            ..ModelMetadata::default()
        };
        adapters::describe(&files.adapters, &mut metadata)?;
        Ok(metadata)
    }

    /// How the weights are quantized when they are loaded, and what there is of that already.
    fn in_situ(&self, config: &WorkerConfig, dtype: DataType) -> Option<InSituQuantization> {
        let to = self.quantization?;
        let files = &self.files;
        // The engine's way to prepared weights is that of text models.
        let prepared = match self.model.kind {
            ModelKind::Text => Prepared::look_up(config, &files.config, &files.weights, dtype, to),
            _ => Prepared::NotAsked,
        };
        Some(InSituQuantization {
            to,
            prepared,
            bytes: self.weights.bytes_in_memory(bytes_of(dtype)),
        })
    }

    /// Bytes of files that the load is to read.
    fn bytes_to_read(&self, quantization: Option<&InSituQuantization>) -> u64 {
        match quantization {
            Some(InSituQuantization {
                prepared: Prepared::Hit(entry),
                ..
            }) => entry.bytes(),
            _ => self.weights.file_bytes + adapters::file_bytes(&self.files.adapters),
        }
    }
}

/// Bytes of a number of this type.
fn bytes_of(dtype: DataType) -> u64 {
    if dtype == DataType::F32 { 4 } else { 2 }
}

/// The modules of an embedding model, which bound its context.
fn modules(
    path: &Path,
    model: &mut ModelConfig,
    text_settings: &TextSettings,
) -> Result<Modules, Failure> {
    let hidden = model.shape.hidden_size;
    let modules = Modules::read(path, hidden, text_settings.model_max_length)?;
    let longest = modules.longest.as_ref().map(|it| it.0);
    model.context_length = model.context_length.into_iter().chain(longest).min();
    Ok(modules)
}

/// What a model is to those who ask it: one of text, where it is loaded as one that takes more but no file says how
/// images are prepared.
fn served_kind(loaded: ModelKind, multimodal: Option<&Multimodal>) -> ModelKind {
    match multimodal {
        Some(model) if model.images.is_none() => ModelKind::Text,
        _ => loaded,
    }
}

/// What a model of this kind takes.
fn modalities(kind: ModelKind) -> Vec<String> {
    let taken: &[&str] = match kind {
        ModelKind::Multimodal => &["text", "image"],
        _ => &["text"],
    };
    taken.iter().map(|name| (*name).to_owned()).collect()
}

/// The quantization that was asked for.
fn quantization(asked: &str) -> Result<Option<Quantization>, Failure> {
    match asked {
        "" => Ok(None),
        asked => Quantization::parse(asked).map(Some),
    }
}

fn list(path: &Path) -> Result<BTreeSet<String>, Failure> {
    let entries = std::fs::read_dir(path).map_err(|e| files::cannot_read(path, &e))?;
    let mut names = BTreeSet::new();
    for entry in entries.take(MAX_ENTRIES) {
        let entry = entry.map_err(|e| files::cannot_read(path, &e))?;
        // A name that is no UTF-8 is none of a model's files.
        if let Ok(name) = entry.file_name().into_string() {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Refuses what is recognised as something else than a text or an embedding model.
fn check_what_it_is(names: &BTreeSet<String>) -> Result<(), Failure> {
    let has = |name: &str| names.contains(name);
    let find = |end: &str| names.iter().find(|name| name.ends_with(end));
    let weights = names.iter().any(|name| shards::is_weights(name));
    if has("model_index.json") {
        return Err(Failure::unusable(
            "This is an image model, which this version of Hangar does not support. Load a text model.",
        ));
    }
    if has("adapter_config.json") && !weights {
        return Err(Failure::unusable(
            "This is a LoRA adapter without its base model. Load the base model, and name the adapter in the \
             spec's adapters.",
        ));
    }
    if find(".uqff").is_some() && !weights {
        return Err(uqff());
    }
    if (!has("config.json") || !names.iter().any(|name| name.ends_with(".safetensors")))
        && let Some(file) = find(".gguf")
    {
        return Err(Failure::unusable(format!(
            "This is a directory with GGUF files. Give the path of one of them, for example of {file}."
        )));
    }
    Ok(())
}

/// Finds the model's files.
fn find(
    config: &WorkerConfig,
    path: &Path,
    names: &BTreeSet<String>,
) -> Result<DirectoryFiles, Failure> {
    let optional = |name: &str| names.contains(name).then(|| path.join(name));
    let required = |name: &str, what: &str| {
        optional(name).ok_or_else(|| {
            Failure::unusable(format!(
                "The directory has no {name}, which holds {what}. Add the file that belongs to the \
                 model."
            ))
        })
    };
    let files = DirectoryFiles {
        directory: path.to_owned(),
        config: required("config.json", "the model's architecture")?,
        weights: shards::find(path, names)?,
        tokenizer: match tokenizer::override_path(config) {
            Some(tokenizer) => tokenizer,
            None => optional("tokenizer.json").ok_or_else(no_tokenizer)?,
        },
        tokenizer_config: optional("tokenizer_config.json"),
        added_tokens: optional("added_tokens.json"),
        special_tokens_map: optional("special_tokens_map.json"),
        template: optional("chat_template.jinja"),
        template_json: optional("chat_template.json"),
        generation_config: optional("generation_config.json"),
        adapters: Vec::new(),
        modules: None,
    };
    Ok(files)
}

fn no_tokenizer() -> Failure {
    Failure::unusable(
        "The directory has no tokenizer.json, which holds the model's tokenizer. Add the file that belongs to the model. \
         If the model comes without one, Python's transformers makes it of the others: \
         AutoTokenizer.from_pretrained(directory).save_pretrained(directory).",
    )
}

/// Up to where the engine computes what the model says on this device: on a GPU, its cache keeps nothing apart of
/// what is beyond a window.
fn limits(by_model: Limits, device: &TargetDevice) -> Limits {
    match device {
        TargetDevice::Cpu => by_model,
        TargetDevice::Gpu(_) => by_model.as_one_prefill(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[bounded::test]
    fn other_models_are_recognised() {
        for (name, word) in [
            ("adapter_config.json", "LoRA"),
            ("a.uqff", "UQFF"),
            ("a.gguf", "a.gguf"),
        ] {
            let error = check_what_it_is(&names(&[name])).expect_err(name);
            assert!(error.message.contains(word), "{error}");
        }
    }
}
