//! Adapters as messages, both ways.

use std::collections::BTreeSet;

use hangar_client::v1;

use super::source::path;
use crate::{
    model::{Adapter, AdapterSource},
    wire::violations::Violations,
};

/// Adapters of one model.
const MAX_ADAPTERS: usize = 8;

pub(super) fn read(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Vec<Adapter> {
    violations.check(
        spec.adapters.len() <= MAX_ADAPTERS,
        &at("adapters"),
        "must have at most 8 entries",
    );
    let mut names = BTreeSet::new();
    let mut adapters = Vec::new();
    for (n, adapter) in spec.adapters.iter().take(MAX_ADAPTERS).enumerate() {
        let field = |name: &str| at(&format!("adapters[{n}].{name}"));
        let name = violations.check_result(&field("name"), adapter.name.parse());
        violations.check(
            names.insert(&adapter.name),
            &field("name"),
            "is the name of another adapter of the model",
        );
        let source = source(adapter, &field, violations);
        adapters.extend(name.map(|name| Adapter { name, source }));
    }
    adapters
}

fn source(
    adapter: &v1::LoraAdapter,
    field: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> AdapterSource {
    if adapter.demo.is_some() {
        violations.check(
            adapter.path.is_empty(),
            &field("path"),
            "must be empty where demo is given",
        );
        return AdapterSource::Demo;
    }
    AdapterSource::Path(path(&adapter.path, &field("path"), violations))
}

pub(super) fn message(adapter: &Adapter) -> v1::LoraAdapter {
    let path = adapter.path();
    v1::LoraAdapter {
        name: adapter.name.to_string(),
        path: path
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        demo: path.is_none().then_some(v1::DemoSource {}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, path: &str) -> v1::LoraAdapter {
        v1::LoraAdapter {
            name: name.to_owned(),
            path: path.to_owned(),
            demo: None,
        }
    }

    fn checked(given: Vec<v1::LoraAdapter>) -> Result<Vec<Adapter>, Vec<String>> {
        let spec = v1::ModelSpec {
            adapters: given,
            ..v1::ModelSpec::default()
        };
        let mut violations = Violations::default();
        let adapters = read(&spec, &|field| format!("spec.{field}"), &mut violations);
        let wrong = violations.all();
        match wrong.is_empty() {
            true => Ok(adapters),
            false => Err(wrong.into_iter().map(|(field, _)| field).collect()),
        }
    }

    #[bounded::test]
    fn adapters_convert_both_ways() {
        let built_in = v1::LoraAdapter {
            demo: Some(v1::DemoSource {}),
            ..adapter(&"x".repeat(64), "")
        };
        let given = vec![adapter("A-1.b_c", "/a"), built_in];
        let adapters = checked(given.clone()).expect("good");
        let out: Vec<_> = adapters.iter().map(message).collect();
        assert_eq!(out, given);
    }

    #[bounded::test]
    fn every_violation_names_its_adapter() {
        let both = v1::LoraAdapter {
            demo: Some(v1::DemoSource {}),
            ..adapter("both", "/a")
        };
        let given = vec![
            adapter("a", "/a"),
            adapter("a", "/b"),
            adapter("b", "relative"),
            adapter("", "/a"),
            adapter(&"x".repeat(65), "/a"),
            adapter("-a", "/a"),
            adapter("a/b", ""),
            both,
        ];
        let fields = [
            "spec.adapters[1].name",
            "spec.adapters[2].path",
            "spec.adapters[3].name",
            "spec.adapters[4].name",
            "spec.adapters[5].name",
            "spec.adapters[6].name",
            "spec.adapters[6].path",
            "spec.adapters[7].path",
        ];
        assert_eq!(checked(given).expect_err("bad"), fields);
        let many = (0..9).map(|n| adapter(&n.to_string(), "/a")).collect();
        assert_eq!(checked(many).expect_err("too many"), ["spec.adapters"]);
    }
}
