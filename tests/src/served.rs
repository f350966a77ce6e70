//! A server with one loaded model and a real engine.

use std::path::Path;

use anyhow::Result;
use hangar_client::{
    Client, Generate,
    v1::{DemoSource, ModelInfo, ModelSource, ModelSpec, model_source::Source},
};

use crate::{
    fixtures::{Embedding, Fixtures},
    hangar::{Hangar, Options, spec},
    info,
};

/// A server and its model `m`, which was loaded.
#[derive(Debug)]
pub struct Served {
    /// The server.
    pub hangar: Hangar,
    /// A client of it.
    pub client: Client,
    /// Where models are. Kept for as long as the model may be loaded from it.
    pub fixtures: Fixtures,
}

impl Served {
    /// With the tiny Llama, which has a context of 256 tokens and one token for each byte.
    ///
    /// # Errors
    ///
    /// When the server does not start or the load fails.
    pub async fn tiny() -> Result<Self> {
        Self::with(|_| ()).await
    }

    /// With the tiny Llama and a changed spec.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn with(change: impl FnOnce(&mut ModelSpec)) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let path = fixtures.llama()?;
        Self::of(fixtures, &path, change).await
    }

    /// With a Llama that has a context of 16,384 tokens, and a changed spec.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn long(change: impl FnOnce(&mut ModelSpec)) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let path = fixtures.long_llama()?;
        Self::of(fixtures, &path, change).await
    }

    /// With the demo model.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn demo() -> Result<Self> {
        let source = Some(Source::Demo(DemoSource {}));
        Self::with(|spec| spec.source = Some(ModelSource { source })).await
    }

    /// With this embedding model.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn embedding(embedding: Embedding) -> Result<Self> {
        Self::embedding_with(embedding, |_| ()).await
    }

    /// With this embedding model and a changed spec.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn embedding_with(
        embedding: Embedding,
        change: impl FnOnce(&mut ModelSpec),
    ) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let path = fixtures.embedding(embedding)?;
        Self::of(fixtures, &path, change).await
    }

    /// With the tiny Gemma 3, whose context has 256 tokens, one for each byte.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn gemma() -> Result<Self> {
        Self::gemma_with(|_| ()).await
    }

    /// With the tiny Gemma 3 and a changed spec.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn gemma_with(change: impl FnOnce(&mut ModelSpec)) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let path = fixtures.gemma3()?;
        Self::of(fixtures, &path, change).await
    }

    /// With the model at this path and a changed spec.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn of(
        fixtures: Fixtures,
        path: &Path,
        change: impl FnOnce(&mut ModelSpec),
    ) -> Result<Self> {
        let options = Options::new(&fixtures);
        Self::start(fixtures, options, path, change).await
    }

    /// As [`Self::of`], with other options of the server.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn start(
        fixtures: Fixtures,
        options: Options,
        path: &Path,
        change: impl FnOnce(&mut ModelSpec),
    ) -> Result<Self> {
        let hangar = Hangar::start(options).await?;
        let client = hangar.client().await?;
        let mut spec = spec(path);
        change(&mut spec);
        client.load("m").spec(spec).wait().await?;
        Ok(Self {
            hangar,
            client,
            fixtures,
        })
    }

    /// A request that always gets the same answer.
    pub fn greedy(&self, prompt: &str) -> Generate {
        self.client.generate("m").prompt(prompt).temperature(0.0)
    }

    /// Everything that is known about the model.
    ///
    /// # Errors
    ///
    /// When it was removed.
    pub async fn model(&self) -> Result<ModelInfo> {
        info::model(&self.client, "m").await
    }

    /// Process of the model's worker; 0 when it has none.
    ///
    /// # Errors
    ///
    /// When the model was removed.
    pub async fn worker(&self) -> Result<u32> {
        info::worker(&self.client, "m").await
    }

    /// Waits until so many requests run and so many wait, as [`info::until_occupancy`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn until_occupancy(&self, in_flight: u32, queued: u32) -> Result<()> {
        info::until_occupancy(&self.client, "m", in_flight, queued).await
    }
}
