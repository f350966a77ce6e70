//! What a GGUF file's tensors take in the engine's memory.
//!
//! The engine keeps quantized matrices as they are, and makes F32 of all else: vectors, matrices of F16 and BF16, and the
//! embedding, which it keeps beside that where the file has no matrix of its own for the output.

use super::header::GgufTensor;

/// Name of the embedding.
pub(super) const EMBEDDING: &str = "token_embd.weight";

/// Name of the matrix of the output.
const OUTPUT: &str = "output.weight";

/// Bytes of a number that is not quantized.
const F32: u64 = 4;

/// Bytes of all tensors in the engine's memory.
pub(super) fn in_memory(tensors: &[GgufTensor]) -> u64 {
    let tied = !tensors.iter().any(|tensor| tensor.name == OUTPUT);
    let bytes = tensors.iter().map(|tensor| match tensor.name.as_str() {
        EMBEDDING if tied => in_f32(tensor).saturating_add(as_matrix(tensor)),
        EMBEDDING => in_f32(tensor),
        _ => as_matrix(tensor),
    });
    bytes.fold(0, u64::saturating_add)
}

/// Bytes beyond that while they are read: the embedding as it is in the file, and the tensor that is being read.
pub(super) fn while_read(tensors: &[GgufTensor]) -> u64 {
    let embedding = tensors.iter().find(|tensor| tensor.name == EMBEDDING);
    let largest = tensors.iter().map(|tensor| tensor.bytes).max();
    let embedding = embedding.map_or(0, |tensor| tensor.bytes);
    embedding.saturating_add(largest.unwrap_or(0))
}

fn as_matrix(tensor: &GgufTensor) -> u64 {
    match tensor.type_name {
        "F32" | "F16" | "BF16" => in_f32(tensor),
        _ if tensor.shape.len() < 2 => in_f32(tensor),
        _ => tensor.bytes,
    }
}

fn in_f32(tensor: &GgufTensor) -> u64 {
    tensor.elements.saturating_mul(F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn what_is_not_a_quantized_matrix_becomes_f32() {
        let embedding = GgufTensor::new(EMBEDDING, "Q8_0", &[32, 10], 340);
        let matrix = GgufTensor::new("blk.0.ffn_up.weight", "Q8_0", &[32, 4], 136);
        let half = GgufTensor::new("blk.0.ffn_down.weight", "F16", &[4, 32], 256);
        let norm = GgufTensor::new("output_norm.weight", "F32", &[32], 128);
        let tied = [embedding, matrix, half, norm];
        let all = 320 * 4 + 136 + 128 * 4 + 32 * 4;
        assert_eq!(in_memory(&tied), all + 340);
        let output = GgufTensor::new(OUTPUT, "Q8_0", &[32, 10], 340);
        let untied: Vec<_> = tied.into_iter().chain([output]).collect();
        assert_eq!(in_memory(&untied), all + 340);
        assert_eq!(while_read(&untied), 340 + 340);
    }
}
