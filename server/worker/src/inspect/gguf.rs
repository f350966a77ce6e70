//! A GGUF file: whether the engine can load it.

mod complete;
mod computed;
mod eog_tokens;
mod header;
mod memory;
mod pre_tokenizer;
mod tensor_type;
mod tokenizer;

use std::{
    collections::HashMap,
    io::BufReader,
    path::{Path, PathBuf},
};

use hangar_client::v1::{DataType, ModelFormat, ModelKind, ModelMetadata};
use hangar_worker_protocol::v1::{ProgressMeasure, WorkerConfig};

use self::header::{GgufTensor, Header};
use super::{
    architecture::Limits,
    device_plan::DevicePlan,
    files,
    inspection::{Files, Inspection},
    memory_need::MemoryNeed,
    model_config::{MAX_LAYERS, Shape},
    spec::{check_kind_found, choose_context_length, choose_dtype, uqff},
    text_settings::TextSettings,
    tokenizer as tokenizer_json,
    tokenizer::{Rewritten, TokenizerSidecars},
};
use crate::{device::TargetDevice, failure::Failure};

/// Architectures that the engine loads from GGUF.
const ARCHITECTURES: [&str; 7] = [
    "llama",
    "mistral3",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3moe",
    "starcoder2",
];

/// Others that it would load, and what it does otherwise than the reference.
const WRONG: [(&str, &str); 1] = [(
    "phi2",
    "it leaves out the activation between the two matrices of a layer",
)];

/// Inspects the file at `path`.
pub(super) fn inspect(
    config: &WorkerConfig,
    path: &Path,
    device: TargetDevice,
) -> Result<Inspection, Failure> {
    refuse_other_files(path)?;
    refuse_other_kinds(config.spec().kind())?;
    refuse_quantization(&config.spec().quantization)?;
    let (file, length) = files::open_weights(path)?;
    let header = Header::read(BufReader::new(file), length).map_err(|why| {
        Failure::unusable(format!(
            "{} is no intact GGUF file: {why}. Get a complete copy of the file.",
            files::name(path)
        ))
    })?;
    GgufModel::new(&header, config)
        .and_then(|model| model.inspect(config, path, length, device))
        .map_err(|failure| Failure {
            message: format!("{}: {}", files::name(path), failure.message),
            ..failure
        })
}

/// The engine loads text models only from such files.
fn refuse_other_kinds(asked: ModelKind) -> Result<(), Failure> {
    if asked != ModelKind::Embedding {
        return Ok(());
    }
    Err(Failure::unusable(
        "The spec's kind is embedding, but the engine loads no embedding models from GGUF files. Load the \
         model's safetensors.",
    ))
}

/// GGUF files hold weights as they are to be used.
fn refuse_quantization(asked: &str) -> Result<(), Failure> {
    if asked.is_empty() {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "The weights of a GGUF file cannot be quantized to {asked} when they are loaded. Leave the \
         quantization out, or load the safetensors that the file was made from."
    )))
}

/// A header that the engine can make use of.
struct GgufModel<'a> {
    header: &'a Header,
    architecture: &'a str,
    layers: u64,
    context_length: u32,
    text_settings: TextSettings,
}

impl<'a> GgufModel<'a> {
    fn new(header: &'a Header, config: &WorkerConfig) -> Result<Self, Failure> {
        let architecture = header.text("general.architecture").ok_or_else(|| {
            Failure::unusable("The file names no architecture. Get another copy.")
        })?;
        check_architecture(architecture)?;
        if header.number("split.count").is_some_and(|count| count > 1) {
            return Err(Failure::unusable(
                "The file is one part of several. Merge the parts into one file, for example with \
                 llama-gguf-split --merge.",
            ));
        }
        let number = |name: &str| {
            let name = format!("{architecture}.{name}");
            let value = header.number(&name).filter(|value| *value > 0);
            value.ok_or_else(|| computed::missing(&name))
        };
        let layers = number("block_count")?;
        if layers > u64::from(MAX_LAYERS) {
            return Err(Failure::unusable(format!(
                "The file claims {layers} layers. Get another copy of it."
            )));
        }
        let context_length = u32::try_from(number("context_length")?).unwrap_or(u32::MAX);
        let text_settings = text_settings(header, config)?;
        check_tensors(header)?;
        computed::check(header, architecture)?;
        Ok(Self {
            header,
            architecture,
            layers,
            context_length,
            text_settings,
        })
    }

    fn inspect(
        &self,
        config: &WorkerConfig,
        path: &Path,
        length: u64,
        device: TargetDevice,
    ) -> Result<Inspection, Failure> {
        computed::check_device(self.architecture, &device)?;
        let main_type = main_type(&self.header.tensors);
        let context_length =
            choose_context_length(config.spec().context_length, Some(self.context_length))?;
        let dtype = self.dtype(config.spec().dtype(), &device, context_length);
        let need = MemoryNeed {
            context_is_requested: config.spec().context_length > 0,
            ..self.need(dtype, context_length)
        };
        let device_plan = DevicePlan::plan(config, device, &need, true)?;
        let context_length = device_plan.context(context_length);
        let metadata = ModelMetadata {
            dtype: dtype.into(),
            context_length: context_length.unwrap_or(0),
            size_bytes: length,
            device: device_plan.device.name(),
            ..self.metadata(path, main_type)
        };
        check_kind_found(config.spec().kind(), ModelKind::Text, self.architecture)?;
        Ok(Inspection {
            files: Files::Gguf(path.to_owned()),
            config: Vec::new(),
            text_settings: self.text_settings.clone(),
            limits: Limits::default(),
            kind: ModelKind::Text,
            multimodal: None,
            dtype,
            quantization: None,
            context_length,
            vocabulary_size: self.vocabulary_size(),
            metadata,
            weight_bytes: length,
            measure: ProgressMeasure::ReadChars,
            need_host_bytes: need.on_the_host(&device_plan.device),
            roomy_host_bytes: need.on_the_host_with_room(&device_plan.device),
            sequence_need: need.sequence(&device_plan.device),
            device_plan,
            chat_template: config.spec().chat_template.clone(),
        })
    }

    /// The data type that attention is computed and its cache kept in; matrices stay as the file has them.
    ///
    /// Processors compute attention in F32 in half the time (BENCHMARKS.md), for a cache of twice the size: that is chosen
    /// where the cache of a whole context is no larger than the weights.
    fn dtype(&self, asked: DataType, device: &TargetDevice, context: Option<u32>) -> DataType {
        let stored_as_f32 = main_type(&self.header.tensors) == "F32";
        let prefers_f32 =
            *device == TargetDevice::Cpu && self.need(DataType::F32, context).has_small_cache();
        choose_dtype(asked, device, stored_as_f32 || prefers_f32)
    }

    /// What the header says about the model.
    fn metadata(&self, path: &Path, main_type: &str) -> ModelMetadata {
        let header = self.header;
        let general = |name: &str| header.text(&format!("general.{name}")).unwrap_or_default();
        let model_name = match general("name") {
            "" => files::name(path),
            name => name.to_owned(),
        };
        ModelMetadata {
            architecture: self.architecture.into(),
            model_name,
            base_model: general("base_model.0.name").into(),
            tokenizer_id: header
                .text("tokenizer.ggml.model")
                .unwrap_or_default()
                .into(),
            kind: ModelKind::Text.into(),
            input_modalities: vec!["text".into()],
            output_modalities: vec!["text".into()],
            parameter_count: header.tensors.iter().map(|tensor| tensor.elements).sum(),
            quantization: quantization(main_type).into(),
            trained_context_length: self.context_length,
            vocabulary_size: self.vocabulary_size().unwrap_or(0),
            format: ModelFormat::Gguf.into(),
            ..ModelMetadata::default()
        }
    }

    fn embedding(&self) -> Option<&GgufTensor> {
        let mut tensors = self.header.tensors.iter();
        tensors.find(|tensor| tensor.name == memory::EMBEDDING)
    }

    /// Rows of the embedding, whose shape is given innermost first.
    fn vocabulary_size(&self) -> Option<u32> {
        u32::try_from(*self.embedding()?.shape.get(1)?).ok()
    }

    fn need(&self, dtype: DataType, context: Option<u32>) -> MemoryNeed {
        let number = |name: &str| {
            let name = format!("{}.{name}", self.architecture);
            self.header.number(&name).unwrap_or(0)
        };
        let kv_heads = match number("attention.head_count_kv") {
            0 => number("attention.head_count"),
            count => count,
        };
        let head_size = match number("attention.key_length") {
            0 => computed::even_head(self.header, self.architecture).unwrap_or(0),
            size => size,
        };
        let of_expert = match number("expert_feed_forward_length") {
            0 => number("feed_forward_length"),
            size => size,
        };
        // The engine's Phi 3 alone keeps windows.
        let window = match self.architecture {
            "phi3" => number("attention.sliding_window"),
            _ => 0,
        };
        let of_experts = number("expert_used_count").saturating_mul(of_expert);
        MemoryNeed {
            weights: memory::in_memory(&self.header.tensors),
            quantizing: memory::while_read(&self.header.tensors),
            merging: 0,
            shape: Shape {
                layers: self.layers,
                kv_heads,
                head_size,
                hidden_size: number("embedding_length"),
                intermediate_size: number("feed_forward_length").max(of_experts),
                window_layers: if window > 0 { self.layers } else { 0 },
                window,
            },
            bytes_per_element: if dtype == DataType::F32 { 4 } else { 2 },
            // Products with quantized weights are of F32.
            bytes_while_computed: 4,
            context: context.unwrap_or(0).into(),
            context_is_requested: false,
            trained_context: self.context_length.into(),
            vocabulary: self.vocabulary_size().unwrap_or(0).into(),
            tokenizer: self.header.bytes,
            mask_bytes_per_pair: None,
            images: 0,
        }
    }
}

/// What there is to know about the model's tokens: by the spec's tokenizer, else by the one in the file.
fn text_settings(header: &Header, config: &WorkerConfig) -> Result<TextSettings, Failure> {
    let given = match tokenizer_json::override_path(config) {
        Some(path) => {
            let rewritten = Rewritten::of(&path, TokenizerSidecars::default())?;
            Some((path, rewritten.tokenizer))
        }
        None => None,
    };
    if given.is_none() {
        complete::check_tokenizer(header)?;
    }
    let path = given
        .as_ref()
        .map_or_else(|| PathBuf::from("The tokenizer"), |it| it.0.clone());
    let mut text_settings = tokenizer::text_settings(header, given.map(|it| it.1))?;
    let made = tokenizer_json::make(&path, &text_settings.tokenizer)?;
    tokenizer_json::check_decoder(&path, &made)?;
    text_settings.resolve_eos_tokens(&serde_json::Value::Null, &made, true);
    Ok(text_settings)
}

fn check_architecture(name: &str) -> Result<(), Failure> {
    if ARCHITECTURES.contains(&name) {
        return Ok(());
    }
    let (all, version) = (ARCHITECTURES.join(", "), crate::version::ENGINE_VERSION);
    Err(Failure::unusable(
        match WRONG.iter().find(|(wrong, _)| *wrong == name) {
            Some((_, why)) => format!(
                "This version of Hangar does not serve {name} from GGUF, which the engine (mistral.rs {version}) does not \
             compute as the reference does: {why}. The file is as it should be: load one of {all}."
            ),
            None => format!(
                "The engine cannot load the architecture {name} from GGUF. Load one of {all}, or the model's safetensors."
            ),
        },
    ))
}

fn check_tensors(header: &Header) -> Result<(), Failure> {
    if header.tensors.is_empty() {
        return Err(Failure::unusable(
            "The file holds no weights. Get a complete copy.",
        ));
    }
    if let Some(tensor) = header.tensors.iter().find(|tensor| !tensor.loadable) {
        return Err(Failure::unusable(format!(
            "The engine cannot read weights of the type {} ({}). Quantize the model to a type like \
             Q4_K or Q8_0.",
            tensor.type_name, tensor.name
        )));
    }
    Ok(())
}

/// Type of most of the weights.
fn main_type(tensors: &[GgufTensor]) -> &'static str {
    let mut bytes: HashMap<&'static str, u64> = HashMap::new();
    for tensor in tensors {
        *bytes.entry(tensor.type_name).or_default() += tensor.bytes;
    }
    bytes
        .into_iter()
        .max_by_key(|(name, bytes)| (*bytes, *name))
        .map_or("", |(name, _)| name)
}

/// Quantization of weights of this type; empty for none.
fn quantization(main_type: &str) -> &str {
    match main_type {
        "F32" | "F16" | "BF16" => "",
        quantized => quantized,
    }
}

/// Files that people take for models.
fn refuse_other_files(path: &Path) -> Result<(), Failure> {
    let name = files::name(path);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => Err(Failure::unusable(format!(
            "{name} is only the weights of a model. Give the path of the model's directory."
        ))),
        Some("bin" | "pt" | "pth" | "ckpt" | "pkl") => Err(Failure::unusable(format!(
            "{name} is pickled. Such files can run code when they are read and are refused: convert the \
             model to safetensors."
        ))),
        Some("uqff") => Err(uqff()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn architectures_that_the_engine_lacks_or_computes_wrongly_are_refused_by_name() {
        for name in ARCHITECTURES {
            assert_eq!(check_architecture(name), Ok(()), "{name}");
        }
        for (name, word) in [("gemma3", "cannot load"), ("phi2", "activation")] {
            let error = check_architecture(name).expect_err(name);
            assert!(
                error.message.contains(name) && error.message.contains(word),
                "{error}"
            );
        }
    }

    #[bounded::test]
    fn other_files_are_refused_by_name() {
        for (name, word) in [
            ("model.safetensors", "directory"),
            ("pytorch_model.bin", "convert"),
            ("a.uqff", "UQFF"),
        ] {
            let error = refuse_other_files(Path::new(name)).expect_err(name);
            assert!(error.message.contains(word), "{error}");
        }
        assert!(refuse_other_files(Path::new("model.gguf")).is_ok());
    }
}
