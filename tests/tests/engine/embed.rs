//! Embed over real sockets, with real engines on tiny embedding models of both kinds.

mod broken;
mod disconnects;
mod ends;
mod info;
mod kinds;
mod lengths;
mod reference;
mod requests;
mod vectors;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hangar_tests::{fixtures::Fixtures, server::TestServer};

/// What is asked of embedding models.
trait Vectors {
    /// The vectors of these texts.
    async fn vectors<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Vec<f32>>>;

    /// The vector of a text.
    async fn vector(&self, text: &str) -> Result<Vec<f32>>;
}

impl Vectors for TestServer {
    async fn vectors<T: Into<String>>(
        &self,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Vec<f32>>> {
        let response = self.client.embed("m").inputs(texts).send().await?;
        Ok(response.embeddings.into_iter().map(|e| e.values).collect())
    }

    async fn vector(&self, text: &str) -> Result<Vec<f32>> {
        self.vectors([text]).await?.pop().context("a vector")
    }
}

/// Texts that take seconds together.
fn many() -> Vec<String> {
    let text = |n: usize| format!("{n:04} {}", "lorem ipsum ".repeat(20));
    (0..1024).map(text).collect()
}

/// Length of a vector.
fn length(vector: &[f32]) -> f64 {
    let squares: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
    squares.sqrt()
}

/// Largest difference between two vectors in a number.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

/// A copy of the model at `path`, `changed` in the model root.
fn copy(fixtures: &Fixtures, path: &Path) -> Result<PathBuf> {
    let to = fixtures.root().join("changed");
    if to.exists() {
        std::fs::remove_dir_all(&to)?;
    }
    copy_directory(path, &to)?;
    Ok(to)
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &place)?;
        } else {
            std::fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}

/// Changes a JSON file.
fn change_json(path: &Path, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
    let mut json = serde_json::from_slice(&std::fs::read(path)?)?;
    change(&mut json);
    Ok(std::fs::write(path, serde_json::to_vec(&json)?)?)
}
