//! What of a GGUF file the engine computes: each tensor and each key that counts is either read by it, or refused
//! here by its name.

use super::header::{Header, Value};
use crate::{device::TargetDevice, failure::Failure};

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

/// Ends of keys of which the engine reads one number for all layers.
const ONE_FOR_ALL: [&str; 3] = [
    ".attention.head_count",
    ".attention.head_count_kv",
    ".feed_forward_length",
];

/// Ends of keys that the engine does not do without, whatever the architecture, though llama.cpp has a value for some.
const NEEDED: [&str; 3] = [
    ".attention.head_count",
    ".attention.head_count_kv",
    ".embedding_length",
];

/// The same of each architecture.
fn needed(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "llama" | "mistral3" => &[".attention.layer_norm_rms_epsilon", ".rope.dimension_count"],
        "phi3" => &[
            ".attention.layer_norm_rms_epsilon",
            ".feed_forward_length",
            ".rope.dimension_count",
        ],
        // Without a base it has another than llama.cpp.
        "starcoder2" => &[".attention.layer_norm_epsilon", ".rope.freq_base"],
        _ => &[".attention.layer_norm_rms_epsilon"],
    }
}

/// Architectures whose heads are as wide as the embedding has room for, whatever the keys say.
const EVEN_HEADS: [&str; 3] = ["phi3", "qwen2", "starcoder2"];

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

/// Architectures of which the engine loads only matrices that are quantized, and only with a head of its own.
const QUANTIZED: [&str; 2] = ["phi3", "starcoder2"];

/// Refuses what the engine would leave out, or fails at.
pub(super) fn check(header: &Header, architecture: &str) -> Result<(), Failure> {
    check_keys(header, architecture)?;
    check_needed(header, architecture)?;
    check_heads(header, architecture)?;
    let tensors = header.tensors.iter();
    let tensors = tensors.map(|tensor| {
        let matrix = tensor.shape.len() > 1;
        (tensor.name.as_str(), tensor.type_name, matrix)
    });
    match wrong_tensor(architecture, tensors) {
        None => Ok(()),
        Some(what) => Err(refused(&what, architecture)),
    }
}

/// Refuses what the engine computes on GPUs only.
pub(super) fn check_device(architecture: &str, device: &TargetDevice) -> Result<(), Failure> {
    match (architecture, device) {
        ("qwen3moe", TargetDevice::Cpu) => Err(Failure::unusable(format!(
            "The engine (mistral.rs {}) computes the experts of qwen3moe from GGUF on GPUs only. The file is as it \
             should be: load another model, or this one on a GPU.",
            crate::version::ENGINE_VERSION
        ))),
        _ => Ok(()),
    }
}

/// What of these tensors, with their types and whether they are matrices, is not computed.
fn wrong_tensor<'a>(
    architecture: &str,
    tensors: impl Iterator<Item = (&'a str, &'a str, bool)>,
) -> Option<String> {
    let quantized = QUANTIZED.contains(&architecture);
    let mut head = false;
    for (name, kind, matrix) in tensors {
        head |= name == "output.weight";
        if !is_read(name, architecture) {
            return Some(format!("the tensor {name}"));
        }
        let plain = matches!(kind, "F32" | "F16" | "BF16");
        if quantized && plain && matrix && name != "token_embd.weight" {
            return Some(format!("the tensor {name} of the type {kind}"));
        }
    }
    (quantized && !head).then(|| "no tensor output.weight of its own".into())
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
    for end in ONE_FOR_ALL {
        let key = format!("{architecture}{end}");
        if matches!(header.values.get(&key), Some(Value::List(_))) {
            return Err(refused(&format!("{key} of each layer"), architecture));
        }
    }
    let key = format!("{architecture}.pooling_type");
    if let Some(kind) = header.number(&key).filter(|kind| *kind > 0) {
        return Err(Failure::unusable(format!(
            "It is an embedding model, by its {key} of {kind}, of which the engine (mistral.rs {}) loads none from GGUF. \
             Load the model's safetensors.",
            crate::version::ENGINE_VERSION
        )));
    }
    let key = format!("{architecture}.rope.scaling.type");
    if let Some(kind) = header
        .text(&key)
        .filter(|kind| !matches!(*kind, "none" | "" | "linear"))
    {
        return Err(refused(&format!("{key} of {kind}"), architecture));
    }
    let key = format!("{architecture}.attention.causal");
    if header.values.get(&key) == Some(&Value::Flag(false)) {
        return Err(refused(&format!("{key} of false"), architecture));
    }
    let key = format!("{architecture}.rope.freq_base");
    if let Some(Value::Float(base)) = header.values.get(&key)
        && architecture == "phi3"
        && (base - 10_000.0).abs() > 0.5
    {
        return Err(refused(&format!("{key} of {base}"), architecture));
    }
    Ok(())
}

/// Refuses what the engine would fail at for want of a key, in words that name it.
fn check_needed(header: &Header, architecture: &str) -> Result<(), Failure> {
    let ends = NEEDED.iter().chain(needed(architecture));
    let mut keys = ends.map(|end| format!("{architecture}{end}"));
    let is_missing = |key: &String| matches!(header.values.get(key), None | Some(Value::Number(0)));
    let missing_key = keys.find(is_missing);
    missing_key.map_or(Ok(()), |key| Err(missing(&key)))
}

/// A key that the engine does not do without is not there.
pub(super) fn missing(key: &str) -> Failure {
    Failure::unusable(format!(
        "The file has no {key}, which the engine needs. Convert the model to GGUF anew."
    ))
}

/// The width of a head where the embedding is spread evenly over all.
pub(super) fn even_head(header: &Header, architecture: &str) -> Option<u64> {
    let number = |end: &str| header.number(&format!("{architecture}{end}"));
    number(".embedding_length")?.checked_div(number(".attention.head_count")?)
}

/// Refuses positions that are not for whole heads, and heads of a width that is not computed.
fn check_heads(header: &Header, architecture: &str) -> Result<(), Failure> {
    let number = |end: &str| header.number(&format!("{architecture}{end}"));
    let Some(even) = even_head(header, architecture) else {
        return Ok(());
    };
    let key_length = ".attention.key_length";
    let width = number(key_length).unwrap_or(even);
    if EVEN_HEADS.contains(&architecture) && width != even {
        return Err(refused(
            &format!("{architecture}{key_length} of {width} where a head has {even}"),
            architecture,
        ));
    }
    let end = ".rope.dimension_count";
    match number(end).filter(|count| *count != width) {
        None => Ok(()),
        Some(count) => Err(refused(
            &format!("{architecture}{end} of {count} where a head has {width}"),
            architecture,
        )),
    }
}

/// Whether the engine reads a tensor.
fn is_read(name: &str, architecture: &str) -> bool {
    if OUTER.contains(&name) {
        return true;
    }
    if name == "output_norm.bias" {
        return architecture == "starcoder2";
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
            // Experts one by one, as older files have them: at those in one tensor the engine fails.
            let expert = inner.split_once('.').is_some_and(|(name, number)| {
                GATED.contains(&name) && number.parse::<u32>().is_ok()
            });
            in_any(inner, &[&ATTENTION, &GATED, &["ffn_gate_inp"], &NORMS]) || expert
        }
        ("qwen2", "weight") => in_any(inner, &[&ATTENTION, &GATED, &NORMS, &HEAD_NORMS]),
        ("qwen2", "bias") => INPUT_BIASES.contains(&inner),
        ("qwen3", "weight") => in_any(inner, &[&ATTENTION, &GATED, &NORMS, &HEAD_NORMS]),
        ("qwen3moe", "weight") => {
            in_any(inner, &[&ATTENTION, &GATED, &EXPERTS, &NORMS, &HEAD_NORMS])
        }
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

    #[bounded::test]
    fn tensors_that_change_the_computation_are_read_or_refused() {
        for (name, architecture, read) in [
            ("blk.0.attn_q.weight", "llama", true),
            ("blk.0.attn_q.bias", "llama", false),
            ("rope_freqs.weight", "llama", false),
            ("blk.0.ffn_gate_exps.weight", "llama", false),
            ("blk.1.ffn_gate.3.weight", "llama", true),
            ("blk.1.attn_q.bias", "qwen2", true),
            ("blk.1.attn_output.bias", "qwen2", false),
            ("blk.1.attn_qkv.bias", "phi3", false),
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

    #[bounded::test]
    fn matrices_that_the_engine_fails_at_are_named() {
        let wrong = |architecture: &str, kind: &str, head: bool| {
            let tensors = [
                ("token_embd.weight", "F16", true),
                ("output_norm.weight", "F32", false),
                ("blk.0.attn_output.weight", kind, true),
                ("output.weight", "Q6K", true),
            ];
            wrong_tensor(
                architecture,
                tensors.into_iter().take(3 + usize::from(head)),
            )
        };
        assert_eq!(wrong("phi3", "Q8_0", true), None);
        assert_eq!(wrong("llama", "F32", false), None);
        let named = |why: Option<String>, part: &str| why.is_some_and(|why| why.contains(part));
        assert!(named(
            wrong("phi3", "F16", true),
            "blk.0.attn_output.weight of the type F16"
        ));
        assert!(named(wrong("starcoder2", "Q8_0", false), "output.weight"));
    }

    /// A header with what is needed.
    fn whole(architecture: &str) -> Header {
        let mut header = Header::default();
        for end in NEEDED.iter().chain(needed(architecture)) {
            let value = Value::Number(if end.ends_with("length") { 256 } else { 4 });
            header.values.insert(format!("{architecture}{end}"), value);
        }
        let end = ".rope.dimension_count";
        header
            .values
            .insert(format!("{architecture}{end}"), Value::Number(64));
        header
    }

    #[bounded::test]
    fn keys_that_are_missing_are_refused_by_name() {
        for architecture in ["llama", "mistral3", "phi3", "qwen2", "qwen3", "starcoder2"] {
            assert_eq!(check_needed(&whole(architecture), architecture), Ok(()));
            for end in NEEDED.iter().chain(needed(architecture)) {
                let key = format!("{architecture}{end}");
                let mut header = whole(architecture);
                for nothing in [None, Some(Value::Number(0))] {
                    header.values.remove(&key);
                    header
                        .values
                        .extend(nothing.map(|value| (key.clone(), value)));
                    let error = check(&header, architecture).expect_err("needed").message;
                    assert!(error.contains(&key), "{error}");
                }
            }
        }
    }

    #[bounded::test]
    fn positions_of_a_part_of_a_head_are_refused_and_so_are_heads_of_another_width() {
        let check = |architecture: &str, keys: &[(&str, u64)]| {
            let mut header = whole(architecture);
            for (end, value) in keys {
                let key = format!("{architecture}.{end}");
                header.values.insert(key, Value::Number(*value));
            }
            check_heads(&header, architecture).map_err(|failure| failure.message)
        };
        assert_eq!(check("llama", &[]), Ok(()));
        let wide = [("attention.key_length", 128), ("rope.dimension_count", 128)];
        assert_eq!(check("qwen3", &wide), Ok(()));
        for (architecture, keys, name) in [
            (
                "llama",
                &[("rope.dimension_count", 32)][..],
                "llama.rope.dimension_count of 32",
            ),
            (
                "starcoder2",
                &[("rope.dimension_count", 32)],
                "dimension_count of 32",
            ),
            ("qwen2", &wide, "qwen2.attention.key_length of 128"),
        ] {
            let error = check(architecture, keys).expect_err("counts");
            assert!(error.contains(name), "{error}");
        }
    }

    #[bounded::test]
    fn keys_that_change_the_computation_are_refused_by_name() {
        let check = |key: &str, value| {
            let mut header = whole("llama");
            header.values.insert(key.into(), value);
            check(&header, "llama").map_err(|failure| failure.message)
        };
        let error = check("llama.rope.scaling.factor", Value::Float(4.0)).expect_err("counts");
        assert!(error.contains("llama.rope.scaling.factor of 4"), "{error}");
        assert!(check("llama.rope.scaling.type", Value::Text("yarn".into())).is_err());
        let error = check("llama.attention.causal", Value::Flag(false)).expect_err("counts");
        assert!(error.contains("llama.attention.causal"), "{error}");
        assert_eq!(check("llama.attention.causal", Value::Flag(true)), Ok(()));
        let error = check("llama.attention.head_count_kv", Value::List(2)).expect_err("counts");
        assert!(error.contains("llama.attention.head_count_kv"), "{error}");
        let error = check("llama.pooling_type", Value::Number(3)).expect_err("counts");
        assert!(
            error.contains("embedding") && error.contains("pooling_type"),
            "{error}"
        );
        assert_eq!(check("llama.pooling_type", Value::Number(0)), Ok(()));
        assert_eq!(
            check("llama.rope.scaling.factor", Value::Float(1.0)),
            Ok(())
        );
    }
}
