//! Whether there is a model at all where a spec says. Names say so; files are opened by workers only.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use super::{
    super::file_system::{FsAccess, TimeLimit},
    ModelRoots, SourceError,
};
use crate::model::{Source, Spec};

/// Files that make a directory one of a model, whether or not this server can load it: the worker says so.
const MODEL_FILES: &[&str] = &["config.json", "adapter_config.json", "model_index.json"];

/// How the names of files of weights end.
const WEIGHTS: &[&str] = &["safetensors", "gguf", "uqff", "bin", "pt", "pth"];

/// More entries than a model's directory has.
const MAX_ENTRIES: usize = 10_000;

impl ModelRoots {
    /// As [`Self::check`], and whether there is what may be a model.
    ///
    /// # Errors
    ///
    /// See [`SourceError`].
    pub async fn check_presence(&self, spec: &Spec, limit: Duration) -> Result<(), SourceError> {
        let limit = TimeLimit::new(limit);
        self.check_paths(spec, limit).await?;
        match &spec.source {
            Source::Path(path) => {
                let is_model = |_: &Self, path: &Path| is_model(path);
                self.run_on_root(FsAccess::Validate, path, limit, is_model)
                    .await
            }
            // What is on the hub is said by the hub.
            Source::HuggingFace(_) | Source::Demo => Ok(()),
        }
    }
}

/// Whether `path`, which may be accessed, may be a model. Blocks.
fn is_model(path: &Path) -> Result<(), SourceError> {
    let unreadable = |source| SourceError::Unreadable {
        path: path.display().to_string(),
        source,
    };
    let no_model = |what| {
        let path = path.display().to_string();
        Err(SourceError::NoModel { path, what })
    };
    let about = fs::metadata(path).map_err(unreadable)?;
    if about.is_file() {
        return match about.len() {
            0 => no_model("is an empty file"),
            _ => Ok(()),
        };
    }
    if !about.is_dir() {
        return no_model("is neither a directory nor a regular file");
    }
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(path).map_err(unreadable)?.take(MAX_ENTRIES) {
        names.insert(entry.map_err(unreadable)?.file_name());
    }
    let belongs = names.iter().map(Path::new).any(belongs_to_a_model);
    match belongs {
        true => Ok(()),
        // Not all names were seen: the worker finds what is there.
        false if names.len() >= MAX_ENTRIES => Ok(()),
        false if names.is_empty() => no_model("is an empty directory"),
        false => {
            no_model("is a directory without a model: it has neither a config.json nor weights")
        }
    }
}

fn belongs_to_a_model(name: &Path) -> bool {
    let named = MODEL_FILES.iter().any(|known| name == Path::new(known));
    let extension = name.extension().and_then(|extension| extension.to_str());
    named || extension.is_some_and(|extension| WEIGHTS.contains(&extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(path: &Path) -> String {
        let refused = is_model(path);
        refused.map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[bounded::test]
    fn a_directory_is_a_models_by_the_names_in_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        assert!(what(path).contains("is an empty directory"));
        std::fs::write(path.join("README.md"), "x").expect("a file");
        assert!(what(path).contains("without a model"));
        for name in ["config.json", "a.gguf", "model.safetensors"] {
            std::fs::write(path.join(name), "").expect("a file");
            assert_eq!(what(path), "", "{name}");
            std::fs::remove_file(path.join(name)).expect("a file");
        }
    }

    #[bounded::test]
    fn a_directory_with_too_many_names_is_left_to_the_worker() {
        let directory = tempfile::tempdir().expect("a directory");
        for n in 0..MAX_ENTRIES {
            std::fs::write(directory.path().join(n.to_string()), "").expect("a file");
        }
        assert_eq!(what(directory.path()), "");
    }

    #[bounded::test]
    fn a_file_that_may_be_one_is_left_to_the_worker() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("weights");
        assert!(what(&path).contains("cannot be used"));
        std::fs::write(&path, "").expect("a file");
        assert!(what(&path).contains("is an empty file"));
        std::fs::write(&path, "x").expect("a file");
        assert_eq!(what(&path), "");
        assert!(what(Path::new("/dev/null")).contains("neither"));
    }
}
