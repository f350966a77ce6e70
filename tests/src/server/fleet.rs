//! A server with several models.

use std::path::PathBuf;

use anyhow::Result;
use hangar_client::{
    Client, Error,
    v1::{ModelLoad, ModelSpec},
};

use super::{TestServer, spec};
use crate::{fixtures::Broken, fleet_watch::FleetWatch, scripted::Script};

/// What every answer of [`answer`] goes on from.
const PROMPT: &str = "Hello";

impl TestServer {
    /// Everything that is reported to watchers from now on.
    ///
    /// # Errors
    ///
    /// When the watch cannot be opened.
    pub async fn watch(&self) -> Result<FleetWatch> {
        FleetWatch::open(&self.client).await
    }

    /// Loads a tiny Llama.
    ///
    /// # Errors
    ///
    /// When it cannot be loaded.
    pub async fn llama(&self, model_id: &str) -> Result<ModelLoad> {
        Ok(self.load(model_id, self.llama_spec()?).await?)
    }

    /// Loads a tiny Qwen, which answers otherwise than the Llama does.
    ///
    /// # Errors
    ///
    /// When it cannot be loaded.
    pub async fn qwen(&self, model_id: &str) -> Result<ModelLoad> {
        Ok(self.load(model_id, self.qwen_spec()?).await?)
    }

    /// Loads a model.
    ///
    /// # Errors
    ///
    /// When it cannot be loaded.
    pub async fn load(&self, model_id: &str, spec: ModelSpec) -> Result<ModelLoad, Error> {
        self.client.load(model_id).spec(spec).wait().await
    }

    /// A tiny Llama.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn llama_spec(&self) -> Result<ModelSpec> {
        Ok(spec(&self.fixtures.llama()?))
    }

    /// A tiny Qwen.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn qwen_spec(&self) -> Result<ModelSpec> {
        Ok(spec(&self.fixtures.qwen3()?))
    }

    /// A model that the engine refuses.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn broken_spec(&self) -> Result<ModelSpec> {
        Ok(spec(&self.fixtures.broken(Broken::Truncated)?))
    }

    /// A model that does what `script` says, in a directory named like it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn script(&self, model_id: &str, script: &Script) -> Result<(PathBuf, ModelSpec)> {
        let path = self.fixtures.scripted(model_id, script)?;
        let spec = spec(&path);
        Ok((path, spec))
    }

    /// A model's answer, always the same.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub async fn answer(&self, model_id: &str) -> Result<String, Error> {
        answer(&self.client, model_id).await
    }
}

/// A model's answer, always the same.
///
/// # Errors
///
/// Those of the call.
pub async fn answer(client: &Client, model_id: &str) -> Result<String, Error> {
    let answer = client.generate(model_id).prompt(PROMPT).temperature(0.0);
    Ok(answer.max_tokens(8).text().await?.text)
}
