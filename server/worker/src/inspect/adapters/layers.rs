//! The tensors of an adapter: which layers of the model they change, and whether they fit them.

use std::{collections::BTreeMap, path::Path};

use super::{
    super::safetensors::{self, SafetensorsTensor},
    adapter_config::AdapterConfig,
    base::{BaseMatrices, is_merged},
};
use crate::failure::Failure;

/// The file with them.
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the model's own names.
const PREFIX: &str = "base_model.model.";

/// Ends of the two matrices of a layer.
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// Types of numbers that the engine converts.
const TYPES: [&str; 3] = ["F16", "BF16", "F32"];

/// The matrices of a layer, by their shapes.
#[derive(Debug, Default)]
struct LoraPair {
    a: Option<Vec<u64>>,
    b: Option<Vec<u64>>,
}

/// The layers that the adapter at `path` changes, and the numbers of the largest weight among them.
pub(super) fn read(
    path: &Path,
    config: &AdapterConfig,
    base: &BaseMatrices,
) -> Result<(Vec<String>, u64), Failure> {
    let tensors = safetensors::tensors(path)?;
    check(&tensors, config, base).map_err(Failure::unusable)
}

fn check(
    tensors: &[SafetensorsTensor],
    config: &AdapterConfig,
    base: &BaseMatrices,
) -> Result<(Vec<String>, u64), String> {
    let pairs = pairs(tensors)?;
    if pairs.is_empty() {
        return Err(format!(
            "{WEIGHTS} holds no tensors. Get a complete copy of the adapter."
        ));
    }
    let mut largest = 0;
    for (layer, pair) in &pairs {
        largest = largest.max(fit(layer, pair, config, base)?);
    }
    check_targets(&pairs, config, base)?;
    Ok((pairs.into_keys().collect(), largest))
}

/// Puts the matrices of each layer together.
fn pairs(tensors: &[SafetensorsTensor]) -> Result<BTreeMap<String, LoraPair>, String> {
    let mut pairs: BTreeMap<String, LoraPair> = BTreeMap::new();
    for tensor in tensors {
        let name = tensor.name.strip_prefix(PREFIX).unwrap_or(&tensor.name);
        let (layer, is_a) = match (name.strip_suffix(A), name.strip_suffix(B)) {
            (Some(layer), _) => (layer, true),
            (None, Some(layer)) => (layer, false),
            (None, None) => return Err(foreign(&tensor.name)),
        };
        if !TYPES.contains(&tensor.dtype.as_str()) {
            return Err(format!(
                "its tensor {} is of the type {}. Save the adapter in one of {}.",
                tensor.name,
                tensor.dtype,
                TYPES.join(", ")
            ));
        }
        let pair = pairs.entry(layer.to_owned()).or_default();
        let matrix = if is_a { &mut pair.a } else { &mut pair.b };
        if matrix.replace(tensor.shape.clone()).is_some() {
            return Err(format!("{WEIGHTS} holds a matrix of {layer} twice."));
        }
    }
    Ok(pairs)
}

/// Why a tensor is not one of a plain LoRA layer.
fn foreign(name: &str) -> String {
    let what = if name.contains("lora_magnitude_vector") {
        "it is a DoRA adapter"
    } else if name.contains("lora_embedding_") {
        "it changes an embedding"
    } else {
        "it changes more than LoRA layers"
    };
    format!(
        "{what} (the tensor {name}), which the engine does not know. Merge it into its model, or train it \
         as plain LoRA."
    )
}

/// Numbers of the layer's weight, if the matrices fit it.
fn fit(
    layer: &str,
    pair: &LoraPair,
    config: &AdapterConfig,
    base: &BaseMatrices,
) -> Result<u64, String> {
    let trained_for = || match &config.base {
        Some(base) => format!("Load the model that it was trained for ({base})."),
        None => "Load the model that it was trained for.".to_owned(),
    };
    let (Some(a), Some(b)) = (&pair.a, &pair.b) else {
        return Err(format!(
            "{WEIGHTS} holds only one of the two matrices of {layer}. Get a complete copy of the adapter."
        ));
    };
    let Some((rows, columns)) = base.matrix(layer) else {
        return Err(format!(
            "it changes the layer {layer}, which the model does not have. {}",
            trained_for()
        ));
    };
    if !is_merged(layer) {
        return Err(format!(
            "it changes {layer}, into which the engine merges no adapters. Merge it into its model, or train \
             it without that layer."
        ));
    }
    let rank = config.rank;
    if *a != [rank, columns] || *b != [rows, rank] {
        return Err(format!(
            "its matrices of {layer} have the shapes {a:?} and {b:?}, where [{rank}, {columns}] and \
             [{rows}, {rank}] fit the rank and the model's layer. {}",
            trained_for()
        ));
    }
    Ok(rows.saturating_mul(columns))
}

/// Compares what the file holds with what the configuration names.
fn check_targets(
    pairs: &BTreeMap<String, LoraPair>,
    config: &AdapterConfig,
    base: &BaseMatrices,
) -> Result<(), String> {
    let Some(targets) = &config.targets else {
        return Ok(());
    };
    let is_target = |layer: &str| {
        targets.iter().any(|target| {
            let rest = layer.strip_suffix(target.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    };
    if let Some(layer) = pairs.keys().find(|layer| !is_target(layer)) {
        return Err(format!(
            "{WEIGHTS} changes {layer}, which the target_modules of adapter_config.json do not name. Put \
             files together that belong together."
        ));
    }
    let missing = base
        .layers()
        .filter(|layer| is_target(layer) && !pairs.contains_key(*layer))
        .min();
    match missing {
        Some(layer) if !config.partial => Err(format!(
            "{WEIGHTS} has nothing for {layer}, which the target_modules of adapter_config.json name. Get a \
             complete copy of the adapter, or load the model that it was trained for."
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: &str = "model.layers.0.self_attn.q_proj";

    fn tensor(name: &str, shape: &[u64]) -> SafetensorsTensor {
        let elements = shape.iter().product();
        SafetensorsTensor {
            name: format!("{PREFIX}{name}"),
            dtype: "F32".into(),
            shape: shape.to_vec(),
            elements,
            bytes: elements * 4,
            begin: 0,
        }
    }

    fn base() -> BaseMatrices {
        let mut base = BaseMatrices::default();
        base.add(&format!("{Q}.weight"), &[8, 6]);
        base.add("model.layers.1.self_attn.q_proj.weight", &[8, 6]);
        base.add("model.embed_tokens.weight", &[10, 6]);
        base
    }

    fn config() -> AdapterConfig {
        AdapterConfig {
            rank: 2,
            scale: 1.0,
            base: Some("some/base".into()),
            targets: Some(vec!["q_proj".into()]),
            partial: false,
        }
    }

    fn pair(layer: &str) -> Vec<SafetensorsTensor> {
        vec![
            tensor(&format!("{layer}{A}"), &[2, 6]),
            tensor(&format!("{layer}{B}"), &[8, 2]),
        ]
    }

    fn both() -> Vec<SafetensorsTensor> {
        [pair(Q), pair("model.layers.1.self_attn.q_proj")].concat()
    }

    #[bounded::test]
    fn an_adapter_that_fits_is_taken_with_and_without_the_prefix() {
        let mut tensors = both();
        for _ in 0..2 {
            let (layers, largest) = check(&tensors, &config(), &base()).expect("it fits");
            assert_eq!((layers.len(), largest), (2, 48));
            assert_eq!(layers[0], Q);
            for tensor in &mut tensors {
                tensor.name = tensor.name.replace(PREFIX, "");
            }
        }
    }

    #[bounded::test]
    fn a_layer_that_does_not_fit_is_refused_by_name() {
        let with = |extra: Vec<SafetensorsTensor>| [both(), extra].concat();
        let mut other_type = both();
        other_type[0].dtype = "I8".into();
        let cases = [
            (vec![], "no tensors"),
            (both()[..3].to_vec(), "only one of the two"),
            (both()[..2].to_vec(), "nothing for model.layers.1"),
            (other_type, "I8"),
            (with(pair("model.layers.2.self_attn.q_proj")), "some/base"),
            (with(pair("model.embed_tokens")), "model.embed_tokens"),
            (with(pair(Q)), "twice"),
            (with(vec![tensor("a.lora_magnitude_vector", &[8])]), "DoRA"),
            (
                with(vec![tensor("a.lora_embedding_A", &[2, 8])]),
                "embedding",
            ),
            (
                with(vec![tensor("lm_head.weight", &[2, 8])]),
                "lm_head.weight",
            ),
        ];
        for (tensors, word) in cases {
            let error = check(&tensors, &config(), &base()).expect_err(word);
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[bounded::test]
    fn shapes_follow_from_the_rank_and_the_model() {
        for (rank, tensors) in [
            (3, both()),
            (2, {
                let mut tensors = both();
                tensors[1].shape = vec![9, 2];
                tensors
            }),
        ] {
            let config = AdapterConfig { rank, ..config() };
            let error = check(&tensors, &config, &base()).expect_err("shapes");
            assert!(error.contains("[8, "), "{error}");
        }
    }

    #[bounded::test]
    fn targets_and_tensors_belong_together() {
        let other = AdapterConfig {
            targets: Some(vec!["v_proj".into()]),
            ..config()
        };
        let error = check(&both(), &other, &base()).expect_err("not named");
        assert!(error.contains("target_modules"), "{error}");
        let partial = AdapterConfig {
            partial: true,
            ..config()
        };
        assert!(check(&pair(Q), &partial, &base()).is_ok());
        let pattern = AdapterConfig {
            targets: None,
            ..config()
        };
        assert!(check(&pair(Q), &pattern, &base()).is_ok());
    }
}
