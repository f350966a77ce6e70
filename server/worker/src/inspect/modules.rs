//! The modules of an embedding model: what is done with its transformer's output to make one vector of it.
//!
//! `modules.json` lists them in the format of the sentence-transformers library. What passes here the engine
//! computes as that library does; what it would compute otherwise, or panic on, is refused.

mod dense;
mod names;
mod pooling;
mod transformer;

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

pub(crate) use pooling::Pooling;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(super) use self::names::{LIST, SENTENCE_TRANSFORMERS_CONFIG};
use self::{names::LONGEST, transformer::TransformerSettings};
use super::files;
use crate::failure::{Failure, truncated};

/// More modules than any model has.
const MAX_MODULES: usize = 16;

/// What makes a vector of the transformer's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Modules {
    /// How the tokens' vectors become one.
    pub(crate) pooling: Pooling,
    /// What the engine is to do, in order.
    pub(crate) steps: Vec<Module>,
    /// Whether the engine scales vectors to length one somewhere on the way.
    pub(crate) scaled: bool,
    /// Whether vectors have length one in the end. The engine has no part in that.
    pub(crate) unit: bool,
    /// Numbers in a vector.
    pub(crate) size: u32,
    /// The config.json of the pooling for the engine.
    pub(crate) pooling_config: Value,
    /// Tokens of the longest text, and the field that says so.
    pub(crate) longest: Option<(u32, String)>,
}

/// A module, in the form in which the engine reads its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Module {
    /// The transformer.
    Transformer {
        /// Its directory in the model's.
        path: String,
    },
    /// Makes one vector of many.
    Pooling {
        /// Its directory in the model's.
        path: String,
        /// Its config.json.
        config: PathBuf,
    },
    /// A matrix.
    Dense {
        /// Its directory in the model's.
        path: String,
        /// Its config.json.
        config: PathBuf,
        /// Its weights.
        model: PathBuf,
    },
    /// Scales to length one.
    Normalize {
        /// Its directory in the model's.
        path: String,
    },
}

/// An entry of the list.
#[derive(Deserialize)]
struct ModuleEntry {
    path: String,
    #[serde(rename = "type")]
    class: String,
}

impl Modules {
    /// Reads the modules of the model in `directory`, whose transformer gives vectors of `hidden` numbers, and whose
    /// tokenizer_config.json sets this `model_max_length`.
    pub(super) fn read(
        directory: &Path,
        hidden: u64,
        model_max_length: Option<u64>,
    ) -> Result<Self, Failure> {
        let entries: Vec<ModuleEntry> =
            files::read_json(&directory.join(LIST), files::MAX_MODULE_FILE)?;
        if entries.len() > MAX_MODULES {
            return Err(invalid(format!("it lists {} modules", entries.len())));
        }
        let mut reader = ModulesReader::new(directory, hidden);
        for entry in &entries {
            reader.add(entry)?;
        }
        reader.finish(TransformerSettings::read(directory, model_max_length)?)
    }

    /// The weights of dense layers.
    pub(super) fn weights(&self) -> impl Iterator<Item = &PathBuf> {
        self.steps.iter().filter_map(|step| match step {
            Module::Dense { model, .. } => Some(model),
            _ => None,
        })
    }
}

/// Modules as far as they were read.
struct ModulesReader<'a> {
    directory: &'a Path,
    /// Numbers in the vectors of the transformer.
    hidden: u64,
    paths: BTreeSet<String>,
    pooling: Option<Pooling>,
    steps: Vec<Module>,
    /// A dense layer adds something to what was pooled, before that is scaled to length one.
    shifted: bool,
    scaled: bool,
    size: u64,
}

impl<'a> ModulesReader<'a> {
    fn new(directory: &'a Path, hidden: u64) -> Self {
        Self {
            directory,
            hidden,
            paths: BTreeSet::new(),
            pooling: None,
            steps: Vec::new(),
            shifted: false,
            scaled: false,
            size: hidden,
        }
    }

    fn add(&mut self, entry: &ModuleEntry) -> Result<(), Failure> {
        let path = entry.path.clone();
        check_path(&path)?;
        if !self.paths.insert(path.clone()) {
            return Err(invalid(format!("two of its modules are in {path:?}")));
        }
        // As the engine reads it: with or without the name of the library before it.
        let class = entry.class.rsplit('.').next().unwrap_or_default();
        let class = class.to_ascii_lowercase();
        let place = self.directory.join(&path);
        match (class.as_str(), self.steps.len()) {
            ("transformer", 0) if path.is_empty() => {
                self.steps.push(Module::Transformer { path });
            }
            ("transformer", 0) => {
                return Err(invalid(format!(
                    "its transformer is in {path:?} and not in the model's own directory"
                )));
            }
            (_, 0) => return Err(invalid("its first module is no Transformer".into())),
            ("pooling", 1) => {
                let config = place.join("config.json");
                self.pooling = Some(Pooling::read(&config, self.size)?);
                self.steps.push(Module::Pooling { path, config });
            }
            (_, 1) => return Err(invalid("its second module is no Pooling".into())),
            ("dense", _) => {
                let (config, model) = (place.join("config.json"), place.join("model.safetensors"));
                let dense = dense::read(&config, &model, self.size)?;
                self.shifted |= dense.bias && !self.scaled;
                self.size = dense.size;
                self.steps.push(Module::Dense {
                    path,
                    config,
                    model,
                });
            }
            ("normalize", _) => {
                check_normalize(&place.join("config.json"))?;
                self.scaled = true;
                self.steps.push(Module::Normalize { path });
            }
            _ => {
                return Err(invalid(format!(
                    "the engine has no module {:?} in this place",
                    truncated(&entry.class, LONGEST)
                )));
            }
        }
        Ok(())
    }

    fn finish(mut self, settings: TransformerSettings) -> Result<Modules, Failure> {
        let pooling = self
            .pooling
            .ok_or_else(|| invalid("it lists no Transformer and Pooling".into()))?;
        if pooling == Pooling::Mean && self.shifted {
            return Err(Failure::unusable(
                "The engine takes the sum of the tokens' vectors where the model wants their mean, which \
                 its dense layer with a bias makes wrong. Load a model whose dense layers have no bias.",
            ));
        }
        // The last scaling is not left to the engine, whose numbers may be too small for it.
        let mut unit = false;
        while matches!(self.steps.last(), Some(Module::Normalize { .. })) {
            self.steps.pop();
            unit = true;
        }
        let scaled = self
            .steps
            .iter()
            .any(|step| matches!(step, Module::Normalize { .. }));
        let size = u32::try_from(self.size)
            .map_err(|_| invalid(format!("its vectors have {} numbers", self.size)))?;
        Ok(Modules {
            pooling,
            steps: self.steps,
            scaled,
            unit,
            size,
            pooling_config: pooling.for_engine(self.hidden),
            longest: settings.longest,
        })
    }
}

/// Checks that what is scaled is the vector, as it is where there is no such file.
fn check_normalize(config: &Path) -> Result<(), Failure> {
    let fields: Option<Map<String, Value>> =
        files::read_json_if_there(config, files::MAX_MODULE_FILE)?;
    let fields = fields.unwrap_or_default();
    for name in ["module_input_name", "module_output_name"] {
        let other = fields.get(name).filter(|value| !value.is_null());
        if let Some(other) = other.filter(|value| *value != "sentence_embedding") {
            return Err(invalid(format!("a Normalize has {other} for {name}")));
        }
    }
    Ok(())
}

/// Checks that a module's directory is in the model's.
fn check_path(path: &str) -> Result<(), Failure> {
    let mut parts = Path::new(path).components();
    let right = match (parts.next(), parts.next()) {
        (None, None) => true,
        (Some(Component::Normal(name)), None) => name == path,
        _ => false,
    };
    if right {
        return Ok(());
    }
    Err(invalid(format!(
        "{:?} is no directory in the model's own",
        truncated(path, LONGEST)
    )))
}

fn invalid(why: String) -> Failure {
    Failure::unusable(format!(
        "modules.json cannot be used: {why}. Get the files that belong to the model, as the \
         sentence-transformers library writes them."
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(modules: &Value, pooling: &Value) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at(LIST), modules.to_string()).expect("a file");
        std::fs::create_dir(at("1_Pooling")).expect("a directory");
        let config = at("1_Pooling/config.json");
        std::fs::write(config, pooling.to_string()).expect("a file");
        directory
    }

    fn module(path: &str, class: &str) -> Value {
        let class = format!("sentence_transformers.models.{class}");
        json!({"idx": 0, "name": "0", "path": path, "type": class})
    }

    fn pooling(mode: &str) -> Value {
        json!({"embedding_dimension": 8, "include_prompt": true, "pooling_mode": mode})
    }

    fn read(modules: &[Value]) -> Result<Modules, String> {
        let directory = written(&json!(modules), &pooling("lasttoken"));
        Modules::read(directory.path(), 8, None).map_err(|failure| failure.message)
    }

    #[bounded::test]
    fn the_last_normalization_is_no_step_of_the_engine() {
        let modules = read(&[
            module("", "Transformer"),
            module("1_Pooling", "Pooling"),
            module("2_Normalize", "Normalize"),
        ])
        .expect("modules");
        assert_eq!(modules.steps.len(), 2);
        assert!(modules.unit && !modules.scaled);
        assert_eq!((modules.pooling, modules.size), (Pooling::LastToken, 8));
    }

    #[bounded::test]
    fn without_a_scaling_vectors_are_as_they_come() {
        let modules = [module("", "Transformer"), module("1_Pooling", "Pooling")];
        assert!(!read(&modules).expect("modules").unit);
    }

    #[bounded::test]
    fn what_the_engine_would_panic_on_is_refused() {
        let (transformer, pooling) = (module("", "Transformer"), module("1_Pooling", "Pooling"));
        for (modules, word) in [
            (vec![], "no Transformer"),
            (vec![pooling.clone()], "first module"),
            (vec![transformer.clone()], "no Transformer and Pooling"),
            (vec![transformer.clone(), transformer.clone()], "two of its"),
            (
                vec![transformer.clone(), module("2", "Normalize")],
                "second module",
            ),
            (
                vec![transformer.clone(), pooling.clone(), module("2", "LSTM")],
                "LSTM",
            ),
            (
                vec![transformer.clone(), module("../1_Pooling", "Pooling")],
                "no directory",
            ),
            (
                vec![transformer.clone(), module("/etc", "Pooling")],
                "no directory",
            ),
            (vec![module("0_T", "Transformer")], "own directory"),
        ] {
            let error = read(&modules).expect_err(word);
            assert!(error.contains(word), "{error}");
        }
    }

    #[bounded::test]
    fn a_list_that_is_missing_or_malformed_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = Modules::read(directory.path(), 8, None).expect_err("missing");
        assert!(error.message.contains(LIST), "{error}");
        std::fs::write(directory.path().join(LIST), "{").expect("a file");
        let error = Modules::read(directory.path(), 8, None).expect_err("malformed");
        assert!(error.message.contains("malformed"), "{error}");
    }
}
