//! The models that are made for the check.

use std::path::{Path, PathBuf};

use anyhow::Result;
use hangar_client::v1::{DataType, ModelSpec};
use hangar_tests::{
    fixtures::{Embedding, Family, Fixtures, Shape},
    server::spec,
};

use crate::arguments::Plan;

/// A model that is on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Its name in the table.
    pub(crate) name: String,
    /// Its directory.
    pub(crate) path: PathBuf,
    /// Bytes of its weights there.
    pub(crate) bytes: u64,
}

/// The models of a check.
#[derive(Debug)]
pub(crate) struct Models {
    /// In F32, with heads that paged attention takes, for texts that must be the same everywhere.
    pub(crate) exact: Model,
    /// For vectors.
    pub(crate) embedding: Model,
    /// By size.
    pub(crate) sized: Vec<Model>,
}

/// With heads of 64 numbers.
const EXACT: Shape = Shape {
    context: 2048,
    ..Shape::WIDE
};

impl Models {
    /// Writes them. Blocks.
    pub(crate) fn write(fixtures: &Fixtures, plan: &Plan) -> Result<Self> {
        let exact = fixtures.checkpoint("exact", Family::Llama, &EXACT, 1, false)?;
        let sized = if plan.small {
            let path = fixtures.checkpoint("tiny", Family::Llama, &EXACT, 2, true)?;
            vec![Model::at("1.3 M", path)?]
        } else {
            let write = |billions: &u32| {
                let (shape, shards) = shape(*billions);
                let name = format!("b{billions}");
                let path = fixtures.checkpoint(&name, Family::Llama, &shape, shards, true)?;
                let parameters = shape.parameters(Family::Llama) as f64 / 1e9;
                Model::at(&format!("{parameters:.1} B"), path)
            };
            plan.sizes.iter().map(write).collect::<Result<_>>()?
        };
        Ok(Self {
            exact: Model::at("exact", exact)?,
            embedding: Model::at("embedding", fixtures.embedding(Embedding::Qwen3)?)?,
            sized,
        })
    }
}

impl Model {
    fn at(name: &str, path: PathBuf) -> Result<Self> {
        let mut bytes = 0;
        for file in weights(&path)? {
            bytes += file.metadata()?.len();
        }
        Ok(Self {
            name: name.to_owned(),
            path,
            bytes,
        })
    }

    /// A spec of it on that device.
    pub(crate) fn on(&self, device: &str, dtype: Option<DataType>) -> ModelSpec {
        ModelSpec {
            device: device.to_owned(),
            dtype: dtype.unwrap_or_default().into(),
            ..spec(&self.path)
        }
    }
}

/// The files with the weights in a directory.
pub(crate) fn weights(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Sizes like those of the Llamas 3.2 1B, 3.2 3B and 3.1 8B, with a smaller vocabulary; and the files to
/// write them to.
fn shape(billions: u32) -> (Shape, usize) {
    let (hidden, intermediate, layers, heads, head_dim) = match billions {
        0..3 => (2048, 8192, 16, 32, 64),
        3..8 => (3072, 8192, 28, 24, 128),
        8.. => (4096, 14_336, 32, 32, 128),
    };
    let shape = Shape {
        vocabulary: 32_000,
        hidden,
        intermediate,
        layers,
        heads,
        kv_heads: 8,
        head_dim,
        context: 8192,
    };
    (shape, 2 * billions as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[hangar_tests::test]
    fn sizes_are_about_what_they_are_called() {
        for (billions, range) in [(1, 0.9..1.4), (3, 2.5..3.5), (8, 6.5..8.5)] {
            let parameters = shape(billions).0.parameters(Family::Llama) as f64 / 1e9;
            assert!(range.contains(&parameters), "{parameters}");
        }
    }
}
