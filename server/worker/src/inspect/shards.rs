//! Which files hold a model's weights.
//!
//! As the reference has it: `model.safetensors`; else those that the index names, whatever their names are; else one
//! set of parts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use hangar_worker_protocol::shard;
use serde_json::{Map, Value};

use super::files;
use crate::failure::Failure;

/// The file that says in which part each tensor is.
const INDEX: &str = "model.safetensors.index.json";

/// Longest index in bytes.
const MAX_INDEX: u64 = 64 << 20;

/// The files with the weights of the model in the directory at `path`, whose entries have these names.
pub(super) fn find(path: &Path, names: &BTreeSet<String>) -> Result<Vec<PathBuf>, Failure> {
    if names.contains("model.safetensors") {
        return Ok(vec![path.join("model.safetensors")]);
    }
    if names.contains(INDEX) {
        return indexed(path);
    }
    let mut sets: BTreeMap<u32, BTreeMap<u32, &String>> = BTreeMap::new();
    for name in names {
        if let Some((number, count)) = shard(name) {
            sets.entry(count).or_default().insert(number, name);
        }
    }
    let mut counts = sets.keys();
    match (counts.next(), counts.next()) {
        (Some(one), Some(other)) => Err(Failure::unusable(format!(
            "The directory has a set of {one} and a set of {other} parts of weights, and no {INDEX} that says which \
             of them are the model's. Take out those that are not, or add the index."
        ))),
        (Some(count), None) => whole(path, *count, &sets[count]),
        (None, _) if names.contains("consolidated.safetensors") => {
            Ok(vec![path.join("consolidated.safetensors")])
        }
        (None, _) => Err(none(names)),
    }
}

/// Whether a file of this name holds weights.
pub(super) fn is_weights(name: &str) -> bool {
    matches!(
        name,
        "model.safetensors" | "consolidated.safetensors" | INDEX
    ) || shard(name).is_some()
}

/// The parts that the index names.
fn indexed(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let index: Map<String, Value> = files::read_json(&path.join(INDEX), MAX_INDEX)?;
    let invalid = |why: String| {
        Failure::unusable(format!(
            "{INDEX} cannot be used: {why}. Get the index that belongs to the model's files."
        ))
    };
    let Some(Value::Object(map)) = index.get("weight_map") else {
        return Err(invalid("it has no weight_map".into()));
    };
    let mut parts = BTreeSet::new();
    for (tensor, part) in map {
        let part = part
            .as_str()
            .ok_or_else(|| invalid(format!("its weight_map names no file for {tensor}")))?;
        let inside = Path::new(part).components();
        if part.is_empty() || !inside.clone().all(|it| matches!(it, Component::Normal(_))) {
            return Err(invalid(format!(
                "{part:?} is no file in the model's directory"
            )));
        }
        parts.insert(part);
    }
    if parts.is_empty() {
        return Err(invalid("its weight_map is empty".into()));
    }
    parts
        .into_iter()
        .map(|part| {
            let file = path.join(part);
            match file.try_exists() {
                Ok(true) => Ok(file),
                Ok(false) => Err(Failure::unusable(format!(
                    "{part}, which {INDEX} names, is missing. Add the file."
                ))),
                Err(e) => Err(files::cannot_read(&file, &e)),
            }
        })
        .collect()
}

fn whole(path: &Path, count: u32, set: &BTreeMap<u32, &String>) -> Result<Vec<PathBuf>, Failure> {
    match (1..=count).find(|number| !set.contains_key(number)) {
        None => Ok(set.values().map(|name| path.join(name)).collect()),
        Some(missing) => Err(Failure::unusable(format!(
            "Part {missing} of the model's {count} safetensors is missing. Add the file."
        ))),
    }
}

fn none(names: &BTreeSet<String>) -> Failure {
    let pickled = |name: &&String| {
        name.ends_with(".pt")
            || name.ends_with(".pth")
            || name.ends_with(".ckpt")
            || (name.ends_with(".bin") && name.contains("model"))
    };
    if let Some(name) = names.iter().find(pickled) {
        return Failure::unusable(format!(
            "The weights are pickled ({name}). Such files can run code when they are read and are \
             refused: convert the model to safetensors."
        ));
    }
    if let Some(name) = names.iter().find(|name| name.ends_with(".safetensors")) {
        return Failure::unusable(format!(
            "The directory has no weights by the names that are looked for, but {name}. Name them \
             model.safetensors, or model-00001-of-00002.safetensors and so on, or add a {INDEX}."
        ));
    }
    Failure::unusable(
        "The directory has no weights. Add the model's safetensors: model.safetensors, or \
         model-00001-of-00002.safetensors and so on.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(all: &[&str]) -> Result<Vec<String>, String> {
        let names = all.iter().map(|name| (*name).to_owned()).collect();
        find(Path::new("m"), &names)
            .map(|paths| paths.iter().map(|path| files::name(path)).collect())
            .map_err(|failure| failure.message)
    }

    #[bounded::test]
    fn a_missing_part_of_the_weights_is_named() {
        let parts = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(chosen(&parts).expect("parts"), parts);
        let error = chosen(&parts[..1]).expect_err("a part is missing");
        assert!(error.contains("Part 2"), "{error}");
    }

    #[bounded::test]
    fn a_single_file_is_found_among_others() {
        let all = [
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "pytorch_model.bin",
            "adapter_model.safetensors",
        ];
        assert_eq!(chosen(&all), Ok(vec!["model.safetensors".into()]));
    }

    #[bounded::test]
    fn two_sets_without_an_index_are_refused() {
        let error = chosen(&[
            "model-00001-of-00001.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ]);
        assert!(
            error
                .expect_err("two sets")
                .contains("no model.safetensors.index.json")
        );
    }

    #[bounded::test]
    fn the_index_names_the_parts_whatever_their_names_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let index = |map: &str| {
            let text = format!("{{\"weight_map\": {map}}}");
            std::fs::write(directory.path().join(INDEX), text).expect("a file");
            let names = [INDEX, "model-00001-of-00003.safetensors"];
            let names = names.map(str::to_owned).into_iter().collect();
            find(directory.path(), &names).map_err(|failure| failure.message)
        };
        let error = index("{\"a\": \"b.safetensors\"}").expect_err("missing");
        assert!(error.contains("b.safetensors"), "{error}");
        std::fs::write(directory.path().join("b.safetensors"), "").expect("a file");
        let found = index("{\"a\": \"b.safetensors\", \"c\": \"b.safetensors\"}");
        assert_eq!(found, Ok(vec![directory.path().join("b.safetensors")]));
        for map in ["{\"a\": \"../b\"}", "{\"a\": 1}", "{}", "[]"] {
            assert!(index(map).is_err(), "{map}");
        }
    }

    #[bounded::test]
    fn pickled_weights_are_refused() {
        for name in [
            "pytorch_model.bin",
            "pytorch_model-00001-of-00002.bin",
            "a.pt",
            "b.pth",
        ] {
            let error = chosen(&[name]).expect_err("pickled");
            assert!(
                error.contains("convert the model to safetensors"),
                "{error}"
            );
        }
    }
}
