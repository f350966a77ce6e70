//! What a GGUF file's tensors take in the engine's memory, and the type of the numbers that are computed with them.
//!
//! The engine keeps quantized matrices as they are, and makes F32 of all else: vectors, matrices of F16 and BF16, and the
//! embedding, which it keeps beside that where the file has no matrix of its own for the output.

use hangar_client::v1::DataType;

use super::header::Tensor;
use crate::{
    device::TargetDevice,
    inspect::{need::Need, spec::choose_dtype},
};

/// Name of the embedding.
pub(super) const EMBEDDING: &str = "token_embd.weight";

/// Name of the matrix of the output.
const OUTPUT: &str = "output.weight";

/// Bytes of a number that is not quantized.
const F32: u64 = 4;

/// How much a cache in F32 may take beyond one in F16, whatever the model is.
const CHEAP: u64 = 256 << 20;

/// Bytes of all tensors in the engine's memory.
pub(super) fn in_memory(tensors: &[Tensor]) -> u64 {
    let tied = !tensors.iter().any(|tensor| tensor.name == OUTPUT);
    let bytes = tensors.iter().map(|tensor| match tensor.name.as_str() {
        EMBEDDING if tied => in_f32(tensor).saturating_add(as_matrix(tensor)),
        EMBEDDING => in_f32(tensor),
        _ => as_matrix(tensor),
    });
    bytes.fold(0, u64::saturating_add)
}

/// Bytes beyond that while they are read: the embedding as it is in the file, and the tensor that is being read.
pub(super) fn while_read(tensors: &[Tensor]) -> u64 {
    let embedding = tensors.iter().find(|tensor| tensor.name == EMBEDDING);
    let largest = tensors.iter().map(|tensor| tensor.bytes).max();
    let embedding = embedding.map_or(0, |tensor| tensor.bytes);
    embedding.saturating_add(largest.unwrap_or(0))
}

fn as_matrix(tensor: &Tensor) -> u64 {
    match tensor.type_name {
        "F32" | "F16" | "BF16" => in_f32(tensor),
        _ if tensor.shape.len() < 2 => in_f32(tensor),
        _ => tensor.bytes,
    }
}

fn in_f32(tensor: &Tensor) -> u64 {
    tensor.elements.saturating_mul(F32)
}

/// The type that was asked for; else, on a CPU, F32, in which attention is computed several times as fast as in F16
/// (docs/devices.md), unless the weights are stored otherwise and its cache would cost too much memory.
pub(super) fn dtype(
    asked: DataType,
    device: &TargetDevice,
    stored_as_f32: bool,
    in_f32: &Need,
) -> DataType {
    let beyond_f16 = in_f32.cache() / 2;
    let costs_little = beyond_f16 <= CHEAP.max(in_f32.weights / 4);
    choose_dtype(asked, device, stored_as_f32 || costs_little)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::model_config::Shape;

    #[test]
    fn what_is_not_a_quantized_matrix_becomes_f32() {
        let embedding = Tensor::new(EMBEDDING, "Q8_0", &[32, 10], 340);
        let matrix = Tensor::new("blk.0.ffn_up.weight", "Q8_0", &[32, 4], 136);
        let half = Tensor::new("blk.0.ffn_down.weight", "F16", &[4, 32], 256);
        let norm = Tensor::new("output_norm.weight", "F32", &[32], 128);
        let tied = [embedding, matrix, half, norm];
        let all = 320 * 4 + 136 + 128 * 4 + 32 * 4;
        assert_eq!(in_memory(&tied), all + 340);
        let output = Tensor::new(OUTPUT, "Q8_0", &[32, 10], 340);
        let untied: Vec<_> = tied.into_iter().chain([output]).collect();
        assert_eq!(in_memory(&untied), all + 340);
        assert_eq!(while_read(&untied), 340 + 340);
    }

    #[test]
    fn a_cpu_computes_in_f32_where_the_cache_allows() {
        let need = |context| Need {
            weights: 4 << 30,
            shape: Shape {
                layers: 32,
                kv_heads: 8,
                head_size: 128,
                ..Shape::default()
            },
            number: 4,
            context,
            ..Need::default()
        };
        let choose =
            |asked, stored, context| dtype(asked, &TargetDevice::Cpu, stored, &need(context));
        let chosen = |context| choose(DataType::Unspecified, false, context);
        // A token takes 256 KiB, half of them beyond F16.
        assert_eq!(chosen(8192), DataType::F32);
        assert_eq!(chosen(8193), DataType::F16);
        assert_eq!(choose(DataType::Unspecified, true, 8193), DataType::F32);
        assert_eq!(choose(DataType::F16, true, 1), DataType::F16);
    }
}
