//! Models made for the tests: tiny ones with random weights, and broken ones.
//!
//! Everything is written below one temporary directory and is the same in each run. All that these
//! models say is printable ASCII, also when it is sampled, and their end token never comes: an answer
//! is exactly as long as it was asked to be.

mod broken;
mod checkpoint;
mod embedding;
mod gemma3;
mod gguf;
mod gguf_reference;
mod lora;
mod qwen3_vl;
mod reference;
mod shape;
mod successor;
mod tensors;
mod vocabulary;
mod weights;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
pub use broken::{Broken, Effect};
pub use candle_core::quantized::gguf_file::Value as GgufValue;
use checkpoint::StoredWeights;
pub use embedding::Embedding;
pub use gguf::Quantization;
pub use gguf_reference::GgufReference;
pub use lora::Lora;
pub use reference::{Reference, ReferenceAnswer, ReferenceEmbedding};
pub use shape::{Family, Shape};
pub use successor::{GgufSuccessor, SuccessorModel};
pub use vocabulary::{CHAT_TEMPLATE, Vocabulary};

use crate::scripted::Script;

/// Temporary directory with a model root; what it holds is written when it is asked for. It goes with its last clone.
#[derive(Clone, Debug)]
pub struct Fixtures {
    directory: Arc<tempfile::TempDir>,
}

impl Fixtures {
    /// Makes an empty model root.
    ///
    /// # Errors
    ///
    /// When the temporary directory cannot be made.
    pub fn new() -> Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    /// Makes an empty model root below this directory.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn new_in(directory: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("hangar-models-")
            .tempdir_in(directory)?;
        let fixtures = Self {
            directory: Arc::new(directory),
        };
        std::fs::create_dir(fixtures.root())?;
        std::fs::create_dir(fixtures.outside())?;
        Ok(fixtures)
    }

    /// The model root, without symlinks in its path.
    pub fn root(&self) -> PathBuf {
        self.base().join("models")
    }

    /// A directory that lies beside the model root, not in it.
    pub fn outside(&self) -> PathBuf {
        self.base().join("outside")
    }

    /// An empty directory in the root, for example for a script of the scripted worker.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.root().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A directory whose model, for the scripted worker, does what the script says.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn scripted(&self, name: &str, script: &Script) -> Result<PathBuf> {
        let path = self.directory(name)?;
        script.write(&path)?;
        Ok(path)
    }

    /// A Llama with f32 weights and a context of 256 tokens, as a safetensors directory.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn llama(&self) -> Result<PathBuf> {
        self.safetensors("llama", Family::Llama, &Shape::TINY)
    }

    /// As [`Self::llama`] with a context of 16,384 tokens, for answers that take a while.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn long_llama(&self) -> Result<PathBuf> {
        self.safetensors(
            "long-llama",
            Family::Llama,
            &Shape {
                context: 16_384,
                ..Shape::TINY
            },
        )
    }

    /// As [`Self::llama`] with rows of 256 numbers and more, as types such as q4k need.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn wide_llama(&self) -> Result<PathBuf> {
        self.safetensors("wide-llama", Family::Llama, &Shape::WIDE)
    }

    /// A Qwen3 with f32 weights and a context of 256 tokens, as a safetensors directory.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn qwen3(&self) -> Result<PathBuf> {
        self.safetensors("qwen3", Family::Qwen3, &Shape::TINY)
    }

    /// An embedding model with f32 weights and a context of 256 tokens, as a safetensors directory.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn embedding(&self, embedding: Embedding) -> Result<PathBuf> {
        let path = self.root().join(embedding.name());
        if !path.exists() {
            embedding.write(&path)?;
        }
        Ok(path)
    }

    /// A Gemma 3 that looks at images, each of which becomes four tokens between two special ones and four
    /// line ends, with f32 weights and a context of 256 tokens.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn gemma3(&self) -> Result<PathBuf> {
        let path = self.root().join("gemma3");
        if !path.exists() {
            gemma3::write(&path)?;
        }
        Ok(path)
    }

    /// A Qwen3-VL that looks at images at about their own size: each 8 by 8 pixels become a token, of images
    /// of 256 to 4,096 pixels; with f32 weights and a context of 512 tokens.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn qwen3_vl(&self) -> Result<PathBuf> {
        let path = self.root().join("qwen3-vl");
        if !path.exists() {
            qwen3_vl::write(&path)?;
        }
        Ok(path)
    }

    /// A Llama as a GGUF file, with a context of 256 tokens.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn llama_gguf(&self, quantization: Quantization) -> Result<PathBuf> {
        self.gguf(
            &format!("llama-{quantization}.gguf"),
            Family::Llama,
            quantization,
        )
    }

    /// A Qwen3 as a GGUF file with f32 weights and a context of 256 tokens.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn qwen3_gguf(&self) -> Result<PathBuf> {
        self.gguf("qwen3-f32.gguf", Family::Qwen3, Quantization::F32)
    }

    /// A Llama of some 443 million parameters in bf16, two files of together 886 MB.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn big_llama(&self) -> Result<PathBuf> {
        let path = self.root().join("big-llama");
        if !path.exists() {
            let store = StoredWeights {
                shards: 2,
                ..StoredWeights::BF16
            };
            checkpoint::write(&path, Family::Llama, &Shape::BIG, store)?;
        }
        Ok(path)
    }

    /// A model of these sizes, as so many safetensors files, in bf16 or in f32.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn checkpoint(
        &self,
        name: &str,
        family: Family,
        shape: &Shape,
        shards: usize,
        bf16: bool,
    ) -> Result<PathBuf> {
        let path = self.root().join(name);
        let kind = if bf16 {
            StoredWeights::BF16
        } else {
            StoredWeights::F32
        };
        checkpoint::write(&path, family, shape, StoredWeights { shards, ..kind })?;
        Ok(path)
    }

    /// A model of which the reference has said what it answers.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn reference(&self, model: &Reference) -> Result<PathBuf> {
        let path = self.root().join(&model.name);
        model.write(&path)?;
        Ok(path)
    }

    /// A GGUF file of which llama.cpp has said what it answers.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn gguf_reference(&self, model: &GgufReference) -> Result<PathBuf> {
        let path = self.root().join(format!("{}.gguf", model.name));
        model.write(&path)?;
        Ok(path)
    }

    /// An embedding model of which the reference says what it gives.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn reference_embedding(&self, model: &ReferenceEmbedding) -> Result<PathBuf> {
        let path = self.root().join(format!("{}-vectors", model.name));
        model.write(&path)?;
        Ok(path)
    }

    /// The adapter of such a model, if it has one.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn reference_adapter(&self, model: &Reference) -> Result<Option<PathBuf>> {
        let Some(adapter) = &model.adapter else {
            return Ok(None);
        };
        let path = self.root().join(format!("{}-adapter", model.name));
        adapter.write(&path)?;
        Ok(Some(path))
    }

    /// A LoRA adapter, in a directory of this name.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn adapter(&self, name: &str, lora: &Lora) -> Result<PathBuf> {
        let path = self.directory(name)?;
        lora.write(&path)?;
        Ok(path)
    }

    /// A model with this fault; the path of a GGUF file or of a directory.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn broken(&self, broken: Broken) -> Result<PathBuf> {
        broken::write(self, broken)
    }

    fn base(&self) -> PathBuf {
        let path: &Path = self.directory.path();
        path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
    }

    /// A Llama with the tokenizer and the chat template in this directory, and a context of 4,096 tokens.
    ///
    /// # Errors
    ///
    /// When the files cannot be read or written.
    pub fn with_tokenizer(&self, name: &str, files: &Path) -> Result<PathBuf> {
        let tokenizer = tokenizers::Tokenizer::from_file(files.join("tokenizer.json"))
            .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        let shape = Shape {
            vocabulary: tokenizer.get_vocab_size(true),
            hidden: 16,
            intermediate: 16,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 16,
            context: 4096,
        };
        let path = self.safetensors(name, Family::Llama, &shape)?;
        for file in std::fs::read_dir(files)? {
            let file = file?;
            std::fs::copy(file.path(), path.join(file.file_name()))?;
        }
        Ok(path)
    }

    /// A model of this family and shape with f32 weights, as a safetensors directory of this name.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn safetensors(&self, name: &str, family: Family, shape: &Shape) -> Result<PathBuf> {
        let path = self.root().join(name);
        if !path.exists() {
            checkpoint::write(&path, family, shape, StoredWeights::F32)?;
        }
        Ok(path)
    }

    fn gguf(&self, name: &str, family: Family, quantization: Quantization) -> Result<PathBuf> {
        let path = self.root().join(name);
        if !path.exists() {
            gguf::GgufContent {
                family,
                quantization,
                ..gguf::GgufContent::default()
            }
            .write(&path)?;
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[hangar_tests::test]
    fn fixtures_are_the_same_each_time() -> Result<()> {
        let (one, two) = (Fixtures::new()?, Fixtures::new()?);
        let file = "model.safetensors";
        assert_eq!(
            fs::read(one.llama()?.join(file))?,
            fs::read(two.llama()?.join(file))?
        );
        assert_eq!(fs::read(one.qwen3_gguf()?)?, fs::read(two.qwen3_gguf()?)?);
        Ok(())
    }

    #[hangar_tests::test]
    fn every_broken_model_can_be_written() -> Result<()> {
        let fixtures = Fixtures::new()?;
        for broken in Broken::ALL {
            let path = fixtures.broken(broken)?;
            assert!(
                path.symlink_metadata().is_ok(),
                "{broken:?}: {}",
                path.display()
            );
        }
        Ok(())
    }
}
