//! Models that the configuration file declares: the tables `[[models]]`.

use std::collections::BTreeSet;

use config::{Value, ValueKind};

use super::ConfigError;
use crate::model::{ModelId, Spec};

/// A declared model. Its spec has the right form; whether it can be used is another matter.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredModel {
    /// Its id: the key `id`.
    pub id: ModelId,
    /// Other names of it: the key `aliases`.
    pub aliases: Vec<String>,
    /// How it is to be run: all other keys.
    pub spec: Spec,
}

/// The models of the tables, in their order.
///
/// # Errors
/// [`ConfigError::Invalid`] naming the model and the key.
pub(super) fn declared(tables: Vec<Value>) -> Result<Vec<DeclaredModel>, ConfigError> {
    let mut ids = BTreeSet::new();
    let mut models = Vec::new();
    for (n, table) in tables.into_iter().enumerate() {
        let model = declared_model(n, table)?;
        if !ids.insert(model.id.clone()) {
            return Err(invalid(
                &model.id,
                "is declared twice; give each model an id of its own",
            ));
        }
        models.push(model);
    }
    Ok(models)
}

fn declared_model(n: usize, table: Value) -> Result<DeclaredModel, ConfigError> {
    let place = format!("table {}", n + 1);
    let mut table = table
        .into_table()
        .map_err(|_| invalid(&place, "must be a table: begin it with [[models]]"))?;
    let id = table
        .remove("id")
        .ok_or_else(|| invalid(&place, "id: is required"))?
        .into_string()
        .map_err(|error| invalid(&place, format!("id: {error}")))?;
    let id = ModelId::parse(&id).map_err(|error| invalid(&place, format!("id: {id:?} {error}")))?;
    let aliases = match table.remove("aliases") {
        None => Vec::new(),
        Some(aliases) => aliases
            .try_deserialize()
            .map_err(|error| invalid(&id, format!("aliases: {error}")))?,
    };
    let spec = Value::new(None, ValueKind::Table(table))
        .try_deserialize()
        .map_err(|error| invalid(&id, error))?;
    Ok(DeclaredModel { id, aliases, spec })
}

fn invalid(model: impl std::fmt::Display, what: impl std::fmt::Display) -> ConfigError {
    ConfigError::invalid("models", format!("{model}: {what}"))
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::{super::Layer, *};
    use crate::model::{Adapter, KvCache, ModelKind, RestartMode, Source};

    fn read(text: &str) -> Result<Vec<DeclaredModel>, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let layer = Layer::from_file(file.path()).map_err(|error| error.to_string())?;
        declared(layer.models.unwrap_or_default()).map_err(|error| error.to_string())
    }

    const TABLES: &str = r#"
        max_models = 7

        [[models]]
        id = "Qwen/Qwen3-0.6B"
        aliases = ["chat", "Default"]
        source = { path = "/models/qwen" }
        kind = "text"
        labels = { Team = "A", tier = "1" }
        idle_timeout = "10m"
        priority = -3
        required = true
        generation_defaults = { sampling = { temperature = 0.25 }, stop = ["</s>"] }
        restart_policy = { mode = "always", initial_backoff = "2s" }
        memory_hint = { host_bytes = 1073741824 }
        adapters = [{ name = "a", path = "/models/a" }, { name = "b", demo = true }]
        kv_cache = { memory_share = 0.25 }

        [[models]]
        id = "demo"
        source = "demo"

        [[models]]
        id = "hub"
        source = { hugging_face = { repository = "a/b" } }
    "#;

    #[bounded::test]
    fn a_table_is_a_model_with_the_fields_of_a_spec() {
        let models = read(TABLES).expect("good tables");
        let ids: Vec<_> = models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!(ids, ["Qwen/Qwen3-0.6B", "demo", "hub"]);
        let first = &models[0];
        assert_eq!(first.aliases, ["chat", "Default"]);
        assert_eq!(
            first.spec.source,
            Source::Path(PathBuf::from("/models/qwen"))
        );
        assert_eq!(first.spec.kind, Some(ModelKind::Text));
        assert_eq!(first.spec.labels["Team"], "A");
        assert_eq!(first.spec.idle_timeout, Some(Duration::from_secs(600)));
        assert_eq!((first.spec.priority, first.spec.required), (-3, true));
        let defaults = &first.spec.generation_defaults;
        assert_eq!(defaults.sampling.temperature, Some(0.25));
        assert_eq!(first.spec.restart_policy().mode, RestartMode::Always);
        assert_eq!(
            first.spec.memory_hint.map(|hint| hint.host_bytes),
            Some(1 << 30)
        );
        let adapters = &first.spec.adapters;
        assert_eq!(adapters[0], Adapter::at("a", "/models/a"));
        assert_eq!(
            (&*adapters[1].name.to_string(), adapters[1].path()),
            ("b", None)
        );
        assert_eq!(first.spec.kv_cache, Some(KvCache::MemoryShare(0.25)));
        assert_eq!(models[1].spec, Spec::of(Source::Demo));
    }

    fn check_refused(text: &str, words: &[&str]) {
        let error = read(text).expect_err(text);
        for part in words {
            assert!(error.contains(part), "{part:?} not in {error:?}");
        }
    }

    #[bounded::test]
    fn what_is_no_model_names_its_place_or_id_and_the_key() {
        for (text, expected) in [
            ("models = 3", vec!["models"]),
            ("models = [3]", vec!["models: table 1", "[[models]]"]),
            (
                "[[models]]\nsource = \"demo\"",
                vec!["models: table 1: id: is required"],
            ),
            (
                "[[models]]\nid = \"a b\"",
                vec!["models: table 1: id: \"a b\" must match"],
            ),
            ("[[models]]\nid = \"m\"", vec!["models: m: ", "source"]),
        ] {
            check_refused(text, &expected);
        }
    }

    #[bounded::test]
    fn a_wrong_value_names_the_model_and_the_key() {
        let demo = "[[models]]\nid = \"m\"\nsource = \"demo\"\n";
        for (text, expected) in [
            (format!("{demo}colour = 1"), vec!["models: m: ", "colour"]),
            (
                format!("{demo}priority = \"high\""),
                vec!["models: m: ", "priority"],
            ),
            (
                format!("{demo}adapters = [{{ name = \"a\" }}]"),
                vec!["models: m: ", "either path or demo"],
            ),
            (
                format!("{demo}kind = \"song\""),
                vec!["models: m: ", "song"],
            ),
            (format!("{demo}aliases = 3"), vec!["models: m: aliases: "]),
            (
                format!("{demo}device = \"tpu\""),
                vec!["models: m: ", "device", "must be \"auto\", \"cpu\""],
            ),
            (
                format!("{demo}quantization = \"4 bits\""),
                vec!["models: m: ", "quantization", "such as \"q4k\""],
            ),
            (
                format!("{demo}{demo}"),
                vec!["models: m: is declared twice"],
            ),
        ] {
            check_refused(&text, &expected);
        }
    }
}
