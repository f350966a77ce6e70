//! Which files of a repository are downloaded.

use std::collections::BTreeSet;

use hangar_worker_protocol::shard;

use super::DownloadError;

/// Files besides the weights that a load reads, where they are.
const AUXILIARY_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "params.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tekken.json",
    "spiece.model",
    "modules.json",
    "config_sentence_transformers.json",
];

/// Files that are chosen at most: more than any model has, and few enough to be asked about and linked one by one.
const MAX_CHOSEN: usize = 10_000;

/// Files whose names an error has.
const MAX_NAMED: usize = 5;

/// The names among `names` that are to be downloaded: those of `wanted`, or all that loading needs. Small
/// files come first.
///
/// # Errors
///
/// [`DownloadError::Unusable`] when a wanted file is missing, nothing is there that can be loaded, or it is in too many files.
pub(super) fn choose(
    names: &BTreeSet<&str>,
    wanted: &[String],
) -> Result<Vec<String>, DownloadError> {
    if let Some(name) = wanted.iter().find(|name| !names.contains(name.as_str())) {
        return Err(unusable(format!(
            "the repository has no file {name} at this revision; check the spec's files"
        )));
    }
    if let Some(name) = wanted.iter().find(|name| is_pickled(name)) {
        return Err(pickled(name));
    }
    if !wanted.is_empty() {
        let unique: BTreeSet<_> = wanted.iter().cloned().collect();
        return Ok(unique.into_iter().collect());
    }
    let weights = weights(names)?;
    if !names.contains("config.json") {
        return Err(unusable(
            "the repository has no config.json; take one in the format of the transformers library",
        ));
    }
    let auxiliary = names.iter().filter(|name| is_auxiliary(name));
    let chosen: Vec<_> = auxiliary.copied().chain(weights).collect();
    if chosen.len() > MAX_CHOSEN {
        return Err(unusable(format!(
            "the model is in {} files of the repository, and {MAX_CHOSEN} are the most that are downloaded",
            chosen.len()
        )));
    }
    Ok(chosen.into_iter().map(ToOwned::to_owned).collect())
}

/// The GGUF file among `files`, which is loaded in place of a directory.
pub(super) fn gguf(files: &[String]) -> Option<&String> {
    files.iter().find(|name| name.ends_with(".gguf"))
}

fn is_auxiliary(name: &str) -> bool {
    let tokenizer = name.starts_with("tokenizer")
        && [".json", ".model", ".txt"]
            .iter()
            .any(|end| name.ends_with(end));
    let template = name.starts_with("chat_template") && !name.contains('/');
    AUXILIARY_FILES.contains(&name)
        || (tokenizer && !name.contains('/'))
        || template
        || is_module(name)
}

/// A part of an embedding model, such as `1_Pooling/config.json`.
fn is_module(name: &str) -> bool {
    let Some((directory, file)) = name.split_once('/') else {
        return false;
    };
    directory
        .split_once('_')
        .is_some_and(|(number, _)| number.parse::<u8>().is_ok())
        && matches!(file, "config.json" | "model.safetensors")
}

/// The weights, with their index, by the names that workers look for.
fn weights<'a>(names: &BTreeSet<&'a str>) -> Result<Vec<&'a str>, DownloadError> {
    const INDEX: &str = "model.safetensors.index.json";
    let shards: Vec<_> = names
        .iter()
        .filter_map(|name| shard(name).map(|(number, count)| (number, count, *name)))
        .collect();
    let single = ["model.safetensors", "consolidated.safetensors"]
        .into_iter()
        .find_map(|name| names.get(name).copied());
    let indexed = names.get(INDEX).copied();
    if let Some(name) = single
        && (shards.is_empty() || (name == "model.safetensors" && indexed.is_none()))
    {
        return Ok(vec![name]);
    }
    let Some((_, count, _)) = shards.first() else {
        return Err(no_weights(names));
    };
    let present: BTreeSet<u32> = shards.iter().map(|(number, ..)| *number).collect();
    if let Some(missing) = (1..=*count).find(|number| !present.contains(number)) {
        return Err(unusable(format!(
            "the repository lacks part {missing} of the model's {count} safetensors at this revision"
        )));
    }
    let shards = shards.iter().map(|(.., name)| *name);
    Ok(indexed.into_iter().chain(shards).collect())
}

fn no_weights(names: &BTreeSet<&str>) -> DownloadError {
    let of_kind = |is: fn(&str) -> bool| {
        let found = names.iter().filter(|name| is(name)).take(MAX_NAMED);
        found.copied().collect::<Vec<_>>().join(", ")
    };
    let gguf = of_kind(|name| name.ends_with(".gguf"));
    if !gguf.is_empty() {
        return unusable(format!(
            "the repository has GGUF files: name the one to load in the spec's files, for example one of {gguf}"
        ));
    }
    if let Some(name) = names.iter().find(|name| is_pickled(name)) {
        return pickled(name);
    }
    let other = of_kind(|name| name.ends_with(".safetensors"));
    if !other.is_empty() {
        return unusable(format!(
            "the repository has no weights by the names that are looked for (model.safetensors, or \
             model-00001-of-00002.safetensors and so on), but {other}"
        ));
    }
    unusable("the repository has no weights: it has to have safetensors or a GGUF file")
}

fn pickled(name: &str) -> DownloadError {
    unusable(format!(
        "the repository's weights are pickled ({name}); such files can run code when they are read and are \
         refused: take a repository with safetensors"
    ))
}

fn is_pickled(name: &str) -> bool {
    [".pt", ".pth", ".ckpt", ".pkl"]
        .iter()
        .any(|end| name.ends_with(end))
        || (name.ends_with(".bin") && name.contains("model"))
}

fn unusable(message: impl Into<String>) -> DownloadError {
    DownloadError::Unusable(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], wanted: &[&str]) -> Result<Vec<String>, String> {
        let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        choose(&names.iter().copied().collect(), &wanted).map_err(|error| error.to_string())
    }

    #[bounded::test]
    fn what_loading_needs_is_chosen_and_nothing_else() {
        let names = [
            "README.md",
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "pytorch_model.bin",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "consolidated.safetensors",
            "onnx/model.onnx",
            "1_Pooling/config.json",
            "m.gguf",
        ];
        let expected = [
            "1_Pooling/config.json",
            "chat_template.jinja",
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(chosen(&names, &[]), Ok(expected.map(String::from).to_vec()));
        assert_eq!(chosen(&names, &["m.gguf"]), Ok(vec!["m.gguf".to_owned()]));
    }

    #[bounded::test]
    fn more_files_than_any_model_has_are_refused() {
        let parts = |count: usize| {
            let part = move |number| format!("model-{number}-of-{count}.safetensors");
            let mut names: Vec<_> = (1..=count).map(part).collect();
            names.push("config.json".to_owned());
            names
        };
        let choose_all = |names: Vec<String>| {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            chosen(&names, &[])
        };
        let most = choose_all(parts(MAX_CHOSEN - 1));
        assert_eq!(most.map(|chosen| chosen.len()), Ok(MAX_CHOSEN));
        let error = choose_all(parts(MAX_CHOSEN)).expect_err("one too many");
        assert!(error.contains("10000 are the most"), "{error}");
    }

    #[bounded::test]
    fn what_cannot_be_loaded_is_refused_with_what_to_do() {
        for (names, wanted, words) in [
            (
                &["config.json", "pytorch_model.bin"][..],
                &[][..],
                "pickled",
            ),
            (&["config.json", "a.gguf"], &[], "a.gguf"),
            (
                &["config.json", "other.safetensors"],
                &[],
                "other.safetensors",
            ),
            (&["config.json"], &[], "no weights"),
            (&["model.safetensors"], &[], "config.json"),
            (
                &["config.json", "model-00001-of-00002.safetensors"],
                &[],
                "part 2",
            ),
            (&["config.json"], &["x.gguf"], "x.gguf"),
            (&["a.pth"], &["a.pth"], "pickled"),
        ] {
            let error = chosen(names, wanted).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }
}
