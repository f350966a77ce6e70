//! The name of an entry: a digest of everything that prepared weights depend on.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use hangar_client::v1::{DataType, ModelSpec};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    digest,
    manifest::{EntrySource, FORMAT},
};
use crate::{quantization::Quantization, version::ENGINE_VERSION};

/// Name of an entry, and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    digest: String,
    inputs: EntrySource,
}

/// What a key is made from besides the files: entries of the same weights differ by it.
#[derive(Clone, Copy)]
pub(super) struct KeyInputs<'a> {
    pub(super) device: &'a str,
    pub(super) dtype: DataType,
    pub(super) quantization: Quantization,
    pub(super) spec: &'a ModelSpec,
}

impl Key {
    /// The key of the weights in these files, of a model whose config.json is `model`.
    ///
    /// The tokenizer, the templates and the generation defaults are always read from the model itself, so
    /// they have no part in it.
    pub(super) fn of(
        model: &Path,
        weights: &[PathBuf],
        made_from: KeyInputs<'_>,
    ) -> io::Result<Self> {
        let mut source = EntrySource {
            engine: ENGINE_VERSION.into(),
            device: kind_of(made_from.device).into(),
            dtype: made_from.dtype.as_str_name().into(),
            quantization: made_from.quantization.name(),
            spec: digest_of(made_from.spec),
            config: digest::whole(&File::open(model)?)?,
            weights: Vec::new(),
        };
        for path in weights {
            let file = File::open(path)?;
            let about = file.metadata()?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // Not the time of the last change of attributes: mounting a volume in a container may change
            // the owner of all its files.
            source.weights.push(format!(
                "{name} {} {}.{:09} {} {}",
                about.len(),
                about.mtime(),
                about.mtime_nsec(),
                about.ino(),
                digest::sample(&file)?,
            ));
        }
        let mut text = Sha256::new();
        text.update(format!("hangar prepared weights {FORMAT}\n"));
        text.update(serde_json::to_vec(&source).map_err(io::Error::other)?);
        Ok(Self {
            digest: digest::hex(text),
            inputs: source,
        })
    }

    /// What it was made from.
    pub(super) fn source(&self) -> &EntrySource {
        &self.inputs
    }
}

/// Digest of what `spec` says that weights may depend on and the key does not have otherwise; empty where it says nothing
/// of that. A field that is new belongs to it unless it is left out here: rather two entries of the same weights than
/// one of different ones.
fn digest_of(spec: &ModelSpec) -> String {
    let rest = ModelSpec {
        // In the key, as what they came to: the files themselves, and how their numbers are kept.
        kind: 0,
        format: 0,
        dtype: 0,
        quantization: String::new(),
        // Read from the model at each load.
        chat_template: String::new(),
        tokenizer: String::new(),
        // Not about weights.
        context_length: 0,
        kv_cache: None,
        ..spec.clone()
    };
    match rest.encode_to_vec() {
        bytes if bytes.is_empty() => String::new(),
        bytes => digest::hex(Sha256::new_with_prefix(bytes)),
    }
}

/// Kind of device that the weights are prepared for.
fn kind_of(device: &str) -> &'static str {
    if device.starts_with("cuda") {
        "cuda"
    } else {
        "cpu"
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    struct TestModel {
        directory: tempfile::TempDir,
    }

    impl TestModel {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let model = Self { directory };
            std::fs::write(model.config(), "{}").expect("a file");
            std::fs::write(model.weights(), "weights").expect("a file");
            model
        }

        fn config(&self) -> PathBuf {
            self.directory.path().join("config.json")
        }

        fn weights(&self) -> PathBuf {
            self.directory.path().join("model.safetensors")
        }

        fn key(&self, dtype: DataType, quantization: &str) -> String {
            self.key_on("cpu", dtype, quantization)
        }

        fn key_on(&self, device: &str, dtype: DataType, quantization: &str) -> String {
            self.key_of(device, dtype, quantization, &ModelSpec::default())
        }

        fn key_of(
            &self,
            device: &str,
            dtype: DataType,
            quantization: &str,
            spec: &ModelSpec,
        ) -> String {
            let quantization = Quantization::parse(quantization).expect("a type");
            let weights = [self.weights()];
            let made_from = KeyInputs {
                device,
                dtype,
                quantization,
                spec,
            };
            let key = Key::of(&self.config(), &weights, made_from);
            key.expect("a key").to_string()
        }
    }

    #[bounded::test]
    fn a_key_is_the_same_as_long_as_nothing_changes() {
        let model = TestModel::new();
        let key = model.key(DataType::F16, "q4k");
        assert_eq!(model.key(DataType::F16, "Q4K"), key);
        assert_eq!(key.len(), 64);
    }

    #[bounded::test]
    fn whatever_the_weights_depend_on_changes_the_key() {
        let model = TestModel::new();
        let key = model.key(DataType::F16, "q4k");
        assert_ne!(model.key(DataType::F32, "q4k"), key);
        assert_ne!(model.key(DataType::F16, "q8_0"), key);
        assert_ne!(model.key_on("cuda:0", DataType::F16, "q4k"), key);
        std::fs::write(model.config(), "{ }").expect("a file");
        let other = model.key(DataType::F16, "q4k");
        assert_ne!(other, key);
        let file = File::options().write(true).open(model.weights());
        let later = SystemTime::now() + Duration::from_secs(9);
        file.expect("a file").set_modified(later).expect("a time");
        assert_ne!(model.key(DataType::F16, "q4k"), other);
    }

    #[bounded::test]
    fn what_the_spec_says_changes_the_key_unless_it_is_known_not_to_change_weights() {
        let model = TestModel::new();
        let key = |spec: &ModelSpec| model.key_of("cpu", DataType::F16, "q4k", spec);
        let plain = key(&ModelSpec::default());
        let known = ModelSpec {
            context_length: 64,
            chat_template: "t".to_owned(),
            tokenizer: "/t".to_owned(),
            ..ModelSpec::default()
        };
        assert_eq!(key(&known), plain);
        // It changes no weights, but stands for any field that nobody has left out.
        let unknown = ModelSpec {
            priority: 1,
            ..ModelSpec::default()
        };
        assert_ne!(key(&unknown), plain);
    }

    #[bounded::test]
    fn a_change_that_keeps_size_and_time_changes_the_key() {
        let model = TestModel::new();
        let key = model.key(DataType::F16, "q4k");
        let time = std::fs::metadata(model.weights()).and_then(|about| about.modified());
        std::fs::write(model.weights(), "weightS").expect("a file");
        let file = File::options().write(true).open(model.weights());
        let file = file.expect("a file");
        file.set_modified(time.expect("a time")).expect("a time");
        assert_ne!(model.key(DataType::F16, "q4k"), key);
    }
}
