//! What of a GGUF file the engine computes: each tensor and each key that counts is either read by it, or refused
//! here by its name.

use super::header::{Header, Value};
use crate::failure::Failure;

/// Ends of keys that change the computation and that the engine does not read, with the values at which they do
/// not.
const KEYS: [(&str, f64); 11] = [
    (".rope.scaling.factor", 1.0),
    (".rope.scaling.attn_factor", 1.0),
    (".rope.scale_linear", 1.0),
    (".attention.scale", 0.0),
    (".attention.clamp_kqv", 0.0),
    (".attention.max_alibi_bias", 0.0),
    (".attention.temperature_scale", 0.0),
    (".attn_logit_softcapping", 0.0),
    (".final_logit_softcapping", 0.0),
    (".logit_scale", 1.0),
    (".embedding_scale", 1.0),
];

/// Tensors outside of layers.
const OUTER: [&str; 3] = ["token_embd.weight", "output_norm.weight", "output.weight"];

const ATTENTION: [&str; 4] = ["attn_q", "attn_k", "attn_v", "attn_output"];
const GATED: [&str; 3] = ["ffn_gate", "ffn_up", "ffn_down"];
const EXPERTS: [&str; 4] = [
    "ffn_gate_inp",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_down_exps",
];
const NORMS: [&str; 2] = ["attn_norm", "ffn_norm"];
const HEAD_NORMS: [&str; 2] = ["attn_q_norm", "attn_k_norm"];
const INPUT_BIASES: [&str; 3] = ["attn_q", "attn_k", "attn_v"];

/// Refuses what the engine would leave out.
pub(super) fn check(header: &Header, architecture: &str) -> Result<(), Failure> {
    check_keys(header, architecture)?;
    let left_out = |name: &&str| !is_read(name, architecture);
    let mut names = header.tensors.iter().map(|tensor| tensor.name.as_str());
    match names.find(left_out) {
        None => Ok(()),
        Some(name) => Err(refused(&format!("the tensor {name}"), architecture)),
    }
}

fn check_keys(header: &Header, architecture: &str) -> Result<(), Failure> {
    for (end, neutral) in KEYS {
        let key = format!("{architecture}{end}");
        let value = match header.values.get(&key) {
            Some(Value::Float(value)) => *value,
            #[allow(clippy::cast_precision_loss)]
            Some(Value::Number(value)) => *value as f64,
            _ => continue,
        };
        if (value - neutral).abs() > f64::EPSILON {
            return Err(refused(&format!("{key} of {value}"), architecture));
        }
    }
    let key = format!("{architecture}.rope.scaling.type");
    if let Some(kind) = header
        .text(&key)
        .filter(|kind| !matches!(*kind, "none" | "" | "linear"))
    {
        return Err(refused(&format!("{key} of {kind}"), architecture));
    }
    let key = format!("{architecture}.rope.freq_base");
    if let Some(Value::Float(base)) = header.values.get(&key)
        && matches!(architecture, "phi2" | "phi3")
        && (base - 10_000.0).abs() > 0.5
    {
        return Err(refused(&format!("{key} of {base}"), architecture));
    }
    Ok(())
}

/// Whether the engine reads a tensor.
fn is_read(name: &str, architecture: &str) -> bool {
    if OUTER.contains(&name) {
        return true;
    }
    if name == "output_norm.bias" {
        return matches!(architecture, "phi2" | "starcoder2");
    }
    let Some((_, inner)) = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let Some((inner, end)) = inner.rsplit_once('.') else {
        return false;
    };
    match (architecture, end) {
        ("llama" | "mistral3", "weight") => {
            let expert = inner.split_once('.').is_some_and(|(name, number)| {
                GATED.contains(&name) && number.parse::<u32>().is_ok()
            });
            in_any(inner, &[&ATTENTION, &GATED, &EXPERTS, &NORMS]) || expert
        }
        ("qwen2", "weight") => in_any(inner, &[&ATTENTION, &GATED, &NORMS, &HEAD_NORMS]),
        ("qwen2", "bias") => INPUT_BIASES.contains(&inner),
        ("qwen3", "weight") => in_any(inner, &[&ATTENTION, &GATED, &NORMS, &HEAD_NORMS]),
        ("qwen3moe", "weight") => {
            in_any(inner, &[&ATTENTION, &GATED, &EXPERTS, &NORMS, &HEAD_NORMS])
        }
        ("phi2", "weight" | "bias") => in_any(
            inner,
            &[&["attn_qkv", "attn_output", "attn_norm", "ffn_up", "ffn_down"]],
        ),
        ("phi3", "weight") => in_any(
            inner,
            &[&["attn_qkv", "attn_output", "ffn_up", "ffn_down"], &NORMS],
        ),
        ("starcoder2", "weight" | "bias") => {
            in_any(inner, &[&ATTENTION, &["ffn_up", "ffn_down"], &NORMS])
        }
        _ => false,
    }
}

fn in_any(name: &str, lists: &[&[&str]]) -> bool {
    lists.iter().any(|list| list.contains(&name))
}

fn refused(what: &str, architecture: &str) -> Failure {
    Failure::unusable(format!(
        "It has {what}, which the engine (mistral.rs {}) does not compute for {architecture} from GGUF. The file is as \
         it should be: load the model's safetensors instead.",
        crate::version::ENGINE_VERSION
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_that_change_the_computation_are_read_or_refused() {
        for (name, architecture, read) in [
            ("blk.0.attn_q.weight", "llama", true),
            ("blk.0.attn_q.bias", "llama", false),
            ("rope_freqs.weight", "llama", false),
            ("blk.1.ffn_gate.3.weight", "llama", true),
            ("blk.1.attn_q.bias", "qwen2", true),
            ("blk.1.attn_output.bias", "qwen2", false),
            ("blk.1.attn_qkv.bias", "phi2", true),
            ("rope_factors_long.weight", "phi3", false),
            ("output_norm.bias", "starcoder2", true),
        ] {
            assert_eq!(
                is_read(name, architecture),
                read,
                "{name} of {architecture}"
            );
        }
    }

    #[test]
    fn keys_that_change_the_computation_are_refused_by_name() {
        let check = |key: &str, value| {
            let mut header = Header::default();
            header.values.insert(key.into(), value);
            check(&header, "llama").map_err(|failure| failure.message)
        };
        let error = check("llama.rope.scaling.factor", Value::Float(4.0)).expect_err("counts");
        assert!(error.contains("llama.rope.scaling.factor of 4"), "{error}");
        assert!(check("llama.rope.scaling.type", Value::Text("yarn".into())).is_err());
        assert_eq!(
            check("llama.rope.scaling.factor", Value::Float(1.0)),
            Ok(())
        );
    }
}
