//! What the headers of a model's safetensors say together: sizes on the disk and in memory.
//!
//! Where the embedding is the head as well, most architectures' heads are quantized as any matrix, and the embedding is
//! kept beside that as it was (`ReplicatedLayer::from_linear` of mistralrs-quant, `distributed/layers.rs`).

use std::{collections::BTreeSet, num::NonZeroUsize, path::PathBuf, thread::available_parallelism};

use super::{
    files,
    model_config::ModelConfig,
    safetensors::{self, SafetensorsTensor},
};
use crate::{failure::Failure, quantization::Quantization};

/// Bytes of a number while it is quantized.
const F32: u64 = 4;

/// Architectures whose head is the embedding, which the engine never quantizes (`models/gemma.rs`, `models/gemma2.rs`,
/// `models/starcoder2.rs`: an `UnquantLinear`).
const UNQUANTIZED_HEADS: [&str; 3] = [
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "Starcoder2ForCausalLM",
];

/// Converted tensors that wait for a thread.
const WAITING: usize = 2;

/// What the engine makes of tensors, by the model's architecture.
#[derive(Debug, Clone, Default)]
pub(super) struct WeightsLayout {
    /// The head that is the embedding as well, if it is one.
    tied: Option<TiedHead>,
    /// What the names of tensors begin with that are never quantized: those of an encoder.
    unquantized: &'static [&'static str],
}

/// A head that is the embedding as well.
#[derive(Debug, Clone)]
struct TiedHead {
    /// Its name, under which the files may have a copy that nobody reads.
    name: String,
    /// Whether it is quantized with the other matrices.
    quantized: bool,
}

/// What the headers of the weights say together.
#[derive(Default)]
pub(super) struct Weights {
    /// Bytes of the files.
    pub(super) file_bytes: u64,
    /// Numbers in all tensors.
    pub(super) parameters: u64,
    /// Rows of the embedding.
    pub(super) vocabulary: Option<u32>,
    /// Names of all tensors.
    pub(super) names: BTreeSet<String>,
    /// Whether they are named as those of a transformer without a head.
    pub(super) bare: bool,
    quantization: Option<Quantization>,
    layout: WeightsLayout,
    /// Elements of the embedding, and of each of its rows.
    embedding: (u64, u64),
    /// Elements of tensors that the engine converts.
    floats: u64,
    /// Those of them that are stored as F32.
    floats_f32: u64,
    /// Those of them that are quantized.
    floats_quantized: u64,
    /// Elements of the largest tensors that are quantized, largest first.
    largest_quantized: Vec<u64>,
    /// Bytes of what is quantized, then.
    quantized: u64,
    /// Bytes of tensors that stay as they are.
    others: u64,
}

impl Weights {
    /// Reads the headers of these files, whose weights are to be quantized to that.
    pub(super) fn read(
        paths: &[PathBuf],
        quantization: Option<Quantization>,
        layout: WeightsLayout,
    ) -> Result<Self, Failure> {
        let mut all = Self {
            quantization,
            layout,
            ..Self::default()
        };
        for path in paths {
            all.file_bytes += files::about(path)?.len();
            let mut own = BTreeSet::new();
            for tensor in safetensors::tensors(path)? {
                all.add(&tensor);
                if all.names.contains(&tensor.name) {
                    return Err(Failure::unusable(format!(
                        "{} has a tensor {} that another file of the model's weights has, too. Take out the files \
                         that are not the model's.",
                        files::name(path),
                        tensor.name
                    )));
                }
                own.insert(tensor.name);
            }
            // The files of modules may name theirs alike.
            if !own.contains("linear.weight") {
                all.names.append(&mut own);
            }
        }
        if all.parameters == 0 {
            return Err(Failure::unusable(
                "The model's safetensors hold no weights. Get a complete copy of the model.",
            ));
        }
        Ok(all)
    }

    /// Whether most of the numbers are stored as F32.
    pub(super) fn stored_as_f32(&self) -> bool {
        self.floats_f32 > self.floats / 2
    }

    /// Bytes of the weights in memory, where a number that is not quantized takes `number` bytes.
    pub(super) fn bytes_in_memory(&self, number: u64) -> u64 {
        (self.floats - self.floats_quantized)
            .saturating_mul(number)
            .saturating_add(self.quantized)
            .saturating_add(self.tied_head(number))
            .saturating_add(self.others)
    }

    /// Bytes beyond that which are needed for a while, the larger of two:
    ///
    /// - each thread quantizes a tensor from F32, and two more tensors wait converted, other than a head that is the
    ///   embedding,
    /// - all that is quantized is copied once, to be written for later loads, and then the embedding.
    ///
    /// With a model of 443 million parameters in q4k, 304 MB by this. Seen were 235 MiB more than are held in the end,
    /// when there is more than the weights.
    pub(super) fn bytes_while_quantized(&self, number: u64) -> u64 {
        if self.quantization.is_none() {
            return 0;
        }
        let sum = |elements: &[u64], most: usize| {
            let largest = elements.iter().take(most);
            largest.fold(0, |sum: u64, elements| sum.saturating_add(*elements))
        };
        let threads = threads();
        let waiting = sum(&self.largest_quantized, threads + WAITING).saturating_mul(number);
        let mut from_f32 = self.largest_quantized.clone();
        let head = self.layout.tied.as_ref().filter(|head| head.quantized);
        from_f32.extend(head.map(|_| self.embedding.0));
        from_f32.sort_unstable_by(|one, other| other.cmp(one));
        // What is F32 already is quantized from where it is.
        let converted = match number {
            F32 => 0,
            _ => sum(&from_f32, threads).saturating_mul(F32),
        };
        let written = self
            .quantized
            .saturating_add(self.tied_head(number))
            .saturating_add(self.embedding.0.saturating_mul(number));
        waiting.saturating_add(converted).max(written)
    }

    /// Bytes of a head that is the embedding as well, beside the embedding. One that is not quantized is the embedding
    /// itself, but has a copy in prepared weights.
    fn tied_head(&self, number: u64) -> u64 {
        let (Some(quantization), Some(head)) = (self.quantization, &self.layout.tied) else {
            return 0;
        };
        let (elements, columns) = self.embedding;
        match head.quantized {
            true => quantization.bytes(elements, columns),
            false => elements.saturating_mul(number),
        }
    }

    fn add(&mut self, tensor: &SafetensorsTensor) {
        self.parameters = self.parameters.saturating_add(tensor.elements);
        self.bare |= tensor.name == "embed_tokens.weight";
        if self.layout.is_unread(&tensor.name) {
            return;
        }
        let is_embedding = ["embed_tokens.weight", "wte.weight", "embed_in.weight"]
            .iter()
            .any(|end| tensor.name.ends_with(end));
        if matches!(tensor.dtype.as_str(), "F16" | "BF16" | "F32" | "F64") {
            self.floats = self.floats.saturating_add(tensor.elements);
            if tensor.dtype == "F32" {
                self.floats_f32 = self.floats_f32.saturating_add(tensor.elements);
            }
            if !is_embedding && !self.layout.is_unquantized(&tensor.name) {
                self.quantize(tensor);
            }
        } else {
            self.others = self.others.saturating_add(tensor.bytes);
        }
        if is_embedding && let [rows, columns] = tensor.shape[..] {
            self.vocabulary = u32::try_from(rows).ok();
            self.embedding = (tensor.elements, columns);
        }
    }

    fn quantize(&mut self, tensor: &SafetensorsTensor) {
        let Some(quantization) = self.quantization else {
            return;
        };
        let [_, .., columns] = tensor.shape[..] else {
            return;
        };
        let bytes = quantization.bytes(tensor.elements, columns);
        self.quantized = self.quantized.saturating_add(bytes);
        self.floats_quantized = self.floats_quantized.saturating_add(tensor.elements);
        let largest = &mut self.largest_quantized;
        let place = largest.partition_point(|elements| *elements > tensor.elements);
        largest.insert(place, tensor.elements);
        largest.truncate(threads() + WAITING);
    }
}

impl WeightsLayout {
    /// That of a model of which config.json says this.
    pub(super) fn of(model: &ModelConfig) -> Self {
        let tensors = &model.tensors;
        let quantized = !UNQUANTIZED_HEADS.contains(&model.architecture.as_str());
        let tied = tensors.tied_head();
        Self {
            tied: tied.map(|name| TiedHead { name, quantized }),
            unquantized: tensors.naming.others,
        }
    }

    fn is_unread(&self, name: &str) -> bool {
        self.tied.as_ref().is_some_and(|head| head.name == name)
    }

    fn is_unquantized(&self, name: &str) -> bool {
        self.unquantized.iter().any(|part| name.starts_with(part))
    }
}

/// Threads that quantize.
fn threads() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[u64]) -> SafetensorsTensor {
        let elements = shape.iter().product();
        SafetensorsTensor {
            name: name.into(),
            dtype: "BF16".into(),
            shape: shape.to_vec(),
            elements,
            bytes: elements * 2,
            begin: 0,
        }
    }

    fn weights(quantization: Option<Quantization>) -> Weights {
        let mut weights = Weights {
            quantization,
            ..Weights::default()
        };
        for tensor in [
            tensor("model.embed_tokens.weight", &[10, 256]),
            tensor("model.norm.weight", &[256]),
            tensor("lm_head.weight", &[10, 256]),
        ] {
            weights.add(&tensor);
        }
        weights
    }

    #[bounded::test]
    fn matrices_but_the_embedding_are_quantized() {
        assert_eq!(weights(None).bytes_in_memory(2), (2560 + 256 + 2560) * 2);
        let q4k = Quantization::parse("q4k").ok();
        assert_eq!(weights(q4k).bytes_in_memory(2), (2560 + 256) * 2 + 10 * 144);
    }

    #[bounded::test]
    fn only_quantizing_takes_more_for_a_while() {
        assert_eq!(weights(None).bytes_while_quantized(2), 0);
        let q4k = Quantization::parse("q4k").ok();
        // The one tensor as it was, and in F32.
        assert_eq!(weights(q4k).bytes_while_quantized(2), 2560 * (2 + 4));
    }

    /// Gemma 3 270M.
    fn gemma(quantization: &str, tied: TiedHead) -> Weights {
        let mut weights = Weights {
            quantization: Quantization::parse(quantization).ok(),
            layout: WeightsLayout {
                tied: Some(tied),
                unquantized: &[],
            },
            ..Weights::default()
        };
        weights.add(&tensor("model.embed_tokens.weight", &[262_144, 640]));
        for layer in 0..18 {
            for (name, shape) in [
                ("self_attn.q_proj", [1024, 640]),
                ("self_attn.k_proj", [256, 640]),
                ("self_attn.v_proj", [256, 640]),
                ("self_attn.o_proj", [640, 1024]),
                ("mlp.gate_proj", [2048, 640]),
                ("mlp.up_proj", [2048, 640]),
                ("mlp.down_proj", [640, 2048]),
            ] {
                weights.add(&tensor(
                    &format!("model.layers.{layer}.{name}.weight"),
                    &shape,
                ));
            }
        }
        weights
    }

    fn tied(quantized: bool) -> TiedHead {
        TiedHead {
            name: "lm_head.weight".into(),
            quantized,
        }
    }

    /// Elements of its embedding, and of its layers' matrices.
    const EMBEDDING: u64 = 262_144 * 640;
    const LAYERS: u64 = 18 * (2 * 1024 * 640 + 2 * 256 * 640 + 3 * 2048 * 640);

    #[bounded::test]
    fn a_quantized_head_lies_beside_the_embedding_that_it_is_made_of() {
        // Blocks of 32 numbers take 34 bytes.
        let quantized = (EMBEDDING + LAYERS) / 32 * 34;
        let weights = gemma("q8_0", tied(true));
        assert_eq!(weights.bytes_in_memory(4), EMBEDDING * 4 + quantized);
        // To be written: a copy of all that, and one of the embedding.
        let written = quantized + EMBEDDING * 4;
        assert_eq!(weights.bytes_while_quantized(4), written);
        // In half precision, the head is quantized from a copy in F32.
        assert!(weights.bytes_while_quantized(2) >= EMBEDDING * 4);
    }

    #[bounded::test]
    fn a_head_that_is_not_quantized_has_a_copy_in_prepared_weights() {
        let layers = LAYERS / 32 * 34;
        let weights = gemma("q8_0", tied(false));
        assert_eq!(weights.bytes_in_memory(4), 2 * EMBEDDING * 4 + layers);
    }

    #[bounded::test]
    fn without_quantization_a_head_that_is_the_embedding_takes_nothing() {
        let mut weights = gemma("", tied(true));
        assert_eq!(weights.bytes_in_memory(4), (EMBEDDING + LAYERS) * 4);
        // Nor does a copy of it in the files, which nobody reads.
        weights.add(&tensor("lm_head.weight", &[262_144, 640]));
        assert_eq!(weights.bytes_in_memory(4), (EMBEDDING + LAYERS) * 4);
    }

    #[bounded::test]
    fn an_encoder_is_not_quantized() {
        let mut weights = gemma("q8_0", tied(true));
        weights.layout.unquantized = &["vision_tower."];
        let before = weights.bytes_in_memory(2);
        weights.add(&tensor("vision_tower.fc1.weight", &[64, 32]));
        assert_eq!(weights.bytes_in_memory(2), before + 64 * 32 * 2);
    }
}
