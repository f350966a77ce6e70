//! What the headers of a model's safetensors say together: sizes on the disk and in memory.

use std::{collections::BTreeSet, num::NonZeroUsize, path::PathBuf, thread::available_parallelism};

use super::{
    files,
    safetensors::{self, Tensor},
};
use crate::{failure::Failure, quantization::Quantization};

/// Bytes of a number while it is quantized.
const F32: u64 = 4;

/// Converted tensors that wait for a thread.
const WAITING: usize = 2;

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
    ) -> Result<Self, Failure> {
        let mut all = Self {
            quantization,
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
            .saturating_add(self.others)
    }

    /// Bytes beyond that which are needed for a while: each thread quantizes a tensor from F32, two more
    /// tensors wait converted; and then all that is quantized is copied once, to be written for later loads.
    /// With a model of 443 million parameters in q4k, 238 MB by this formula where 235 MB were seen.
    pub(super) fn bytes_while_quantized(&self, number: u64) -> u64 {
        if self.quantization.is_none() {
            return 0;
        }
        let largest = |count| {
            let largest = self.largest_quantized.iter().take(count);
            largest.fold(0, |sum: u64, elements| sum.saturating_add(*elements))
        };
        let threads = threads();
        largest(threads + WAITING)
            .saturating_mul(number)
            .saturating_add(largest(threads).saturating_mul(F32))
            .max(self.quantized)
    }

    fn add(&mut self, tensor: &Tensor) {
        self.parameters = self.parameters.saturating_add(tensor.elements);
        self.bare |= tensor.name == "embed_tokens.weight";
        let is_embedding = ["embed_tokens.weight", "wte.weight", "embed_in.weight"]
            .iter()
            .any(|end| tensor.name.ends_with(end));
        if matches!(tensor.dtype.as_str(), "F16" | "BF16" | "F32" | "F64") {
            self.floats = self.floats.saturating_add(tensor.elements);
            if tensor.dtype == "F32" {
                self.floats_f32 = self.floats_f32.saturating_add(tensor.elements);
            }
            if !is_embedding {
                self.quantize(tensor);
            }
        } else {
            self.others = self.others.saturating_add(tensor.bytes);
        }
        if is_embedding && let [rows, _] = tensor.shape[..] {
            self.vocabulary = u32::try_from(rows).ok();
        }
    }

    fn quantize(&mut self, tensor: &Tensor) {
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

/// Threads that quantize.
fn threads() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[u64]) -> Tensor {
        let elements = shape.iter().product();
        Tensor {
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

    #[test]
    fn matrices_but_the_embedding_are_quantized() {
        assert_eq!(weights(None).bytes_in_memory(2), (2560 + 256 + 2560) * 2);
        let q4k = Quantization::parse("q4k").ok();
        assert_eq!(weights(q4k).bytes_in_memory(2), (2560 + 256) * 2 + 10 * 144);
    }

    #[test]
    fn only_quantizing_takes_more_for_a_while() {
        assert_eq!(weights(None).bytes_while_quantized(2), 0);
        let q4k = Quantization::parse("q4k").ok();
        // The one tensor as it was, and in F32.
        assert_eq!(weights(q4k).bytes_while_quantized(2), 2560 * (2 + 4));
    }
}
