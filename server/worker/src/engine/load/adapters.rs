//! Adapters in the engine's terms.
//!
//! The engine merges an adapter into each layer whose name matches one of the adapter's targets, anywhere in
//! the name. It gets the names of exactly those layers that the adapter was seen to have.

use mistralrs::core::{AdapterPaths, LoraAdapterPaths};
use serde_json::json;

use crate::{failure::Failure, inspect::Adapter};

/// What the engine's loader is to merge.
pub(super) fn paths(adapters: &[Adapter]) -> Result<AdapterPaths, Failure> {
    if adapters.is_empty() {
        return Ok(AdapterPaths::None);
    }
    let paths = adapters.iter().map(path).collect::<Result<_, _>>()?;
    Ok(AdapterPaths::Lora(paths))
}

/// Names for the engine's loader.
pub(super) fn names(adapters: &[Adapter]) -> Vec<String> {
    adapters.iter().map(|it| it.name.clone()).collect()
}

fn path(adapter: &Adapter) -> Result<LoraAdapterPaths, Failure> {
    #[allow(clippy::cast_precision_loss)]
    let rank = adapter.rank as f64;
    let config = json!({
        "r": adapter.rank,
        // The engine divides it by the rank.
        "lora_alpha": adapter.scale * rank,
        "target_modules": [exactly(&adapter.layers)],
    });
    let lora_config = serde_json::from_value(config).map_err(|error| {
        Failure::internal(format!("the engine takes no adapter's settings: {error}"))
    })?;
    Ok(LoraAdapterPaths {
        lora_config,
        adapter_path: adapter.weights.clone(),
    })
}

/// A regular expression that matches these names and nothing else. They are of letters, digits, "_" and ".".
fn exactly(names: &[String]) -> String {
    format!("^(?:{})$", names.join("|").replace('.', r"\."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn the_expression_is_for_whole_names() {
        let names = ["model.layers.1.q".to_owned(), "model.layers.2.q".to_owned()];
        assert_eq!(
            exactly(&names),
            r"^(?:model\.layers\.1\.q|model\.layers\.2\.q)$"
        );
    }
}
