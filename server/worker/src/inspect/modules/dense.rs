//! A dense layer behind the pooling.

use std::path::Path;

use serde::Deserialize;

use crate::{
    failure::Failure,
    inspect::{files, safetensors},
};

/// The activation that the engine has. The library takes no name for it but this.
const IDENTITY: &str = "torch.nn.modules.linear.Identity";

/// What a layer reads and writes.
const VECTOR: &str = "sentence_embedding";

/// A dense layer.
pub(super) struct Dense {
    /// Numbers in the vectors that it gives.
    pub(super) size: u64,
    /// Whether it adds something to them.
    pub(super) bias: bool,
}

#[derive(Deserialize)]
struct DenseConfig {
    in_features: u64,
    out_features: u64,
    bias: bool,
    activation_function: String,
    #[serde(default)]
    use_residual: bool,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
}

/// Reads a layer that takes vectors of `size` numbers. The engine panics where config and weights differ.
pub(super) fn read(config: &Path, model: &Path, size: u64) -> Result<Dense, Failure> {
    let config: DenseConfig = files::read_json(config, files::MAX_MODULE_FILE).map_err(of_dense)?;
    if config.in_features != size {
        return Err(Failure::unusable(format!(
            "A dense layer of the model takes vectors of {} numbers, but gets {size}. Get the files that \
             belong together.",
            config.in_features
        )));
    }
    let is_vector = |name: &Option<String>| name.as_ref().is_none_or(|name| name == VECTOR);
    for (name, wrong) in [
        ("use_residual", config.use_residual),
        ("module_input_name", !is_vector(&config.module_input_name)),
        ("module_output_name", !is_vector(&config.module_output_name)),
    ] {
        if wrong {
            return Err(Failure::unusable(format!(
                "The config.json of a dense layer of the model sets {name}, which the engine (mistral.rs {}) does not \
                 follow. The file is as it should be: load another model.",
                crate::version::ENGINE_VERSION
            )));
        }
    }
    if config.activation_function != IDENTITY {
        return Err(Failure::unusable(
            "A dense layer of the model has an activation that the engine does not have. Load a model \
             whose dense layers have the activation torch.nn.modules.linear.Identity.",
        ));
    }
    let tensors = safetensors::tensors(model).map_err(of_dense)?;
    let has = |name: &str, shape: &[u64]| {
        tensors
            .iter()
            .any(|tensor| tensor.name == name && tensor.shape == shape)
    };
    let out = config.out_features;
    let whole = has("linear.weight", &[out, size]) && (!config.bias || has("linear.bias", &[out]));
    if !whole || out == 0 {
        return Err(Failure::unusable(format!(
            "The weights of a dense layer of the model are not those of its config.json, which makes \
             {out} numbers of {size}. Get the files that belong together."
        )));
    }
    Ok(Dense {
        size: out,
        bias: config.bias,
    })
}

/// Names the files that a failure is about.
fn of_dense(failure: Failure) -> Failure {
    Failure {
        message: format!("In a dense layer of the model: {}", failure.message),
        ..failure
    }
}
