//! Servers with a real engine that has loaded the model `m`, and what is asked of it.

use anyhow::Result;
use hangar_client::{
    Generate,
    v1::{DemoSource, ModelInfo, ModelSource, ModelSpec, model_source::Source},
};

use super::{MODEL, TestServer};
use crate::{
    fixtures::{Embedding, Fixtures},
    info,
};

impl TestServer {
    /// With the tiny Llama, which has a context of 256 tokens and one token for each byte.
    ///
    /// # Errors
    ///
    /// When the server does not start or the load fails.
    pub async fn tiny() -> Result<Self> {
        Self::tiny_with(|_| ()).await
    }

    /// With the tiny Llama and a changed spec.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn tiny_with(change: impl FnOnce(&mut ModelSpec)) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let path = fixtures.llama()?;
        Self::real()
            .fixtures(&fixtures)
            .serving(&path, change)
            .await
    }

    /// With a Llama that has a context of 16,384 tokens, and a changed spec.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn long(change: impl FnOnce(&mut ModelSpec)) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let path = fixtures.long_llama()?;
        Self::real()
            .fixtures(&fixtures)
            .serving(&path, change)
            .await
    }

    /// With the demo model.
    ///
    /// # Errors
    ///
    /// As [`Self::tiny`].
    pub async fn demo() -> Result<Self> {
        let source = Some(Source::Demo(DemoSource {}));
        Self::tiny_with(|spec| spec.source = Some(ModelSource { source })).await
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
        Self::real()
            .fixtures(&fixtures)
            .serving(&path, change)
            .await
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
        Self::real()
            .fixtures(&fixtures)
            .serving(&path, change)
            .await
    }

    /// A request that always gets the same answer.
    pub fn greedy(&self, prompt: &str) -> Generate {
        self.client.generate(MODEL).prompt(prompt).temperature(0.0)
    }

    /// Everything that is known about the model.
    ///
    /// # Errors
    ///
    /// When there is no such model.
    pub async fn info(&self) -> Result<ModelInfo> {
        info::model(&self.client, MODEL).await
    }

    /// Waits until something is known about the model that no transition shows.
    ///
    /// # Errors
    ///
    /// When it is not so within [`super::DEADLINE`].
    pub async fn info_when(&self, is_so: impl Fn(&ModelInfo) -> bool) -> Result<ModelInfo> {
        info::when(&self.client, MODEL, is_so).await
    }

    /// Process of the model's worker; 0 when it has none.
    ///
    /// # Errors
    ///
    /// When the model was removed.
    pub async fn worker(&self) -> Result<u32> {
        info::worker(&self.client, MODEL).await
    }

    /// Waits until so many requests run and so many wait, as [`info::until_occupancy`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn until_occupancy(&self, in_flight: u32, queued: u32) -> Result<()> {
        info::until_occupancy(&self.client, MODEL, in_flight, queued).await
    }
}
