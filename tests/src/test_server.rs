//! A server with several models.

use std::path::PathBuf;

use anyhow::Result;
use hangar_client::{
    Client, Error,
    v1::{ModelLoad, ModelSpec},
};

use crate::{
    fixtures::{Broken, Fixtures},
    fleet_watch::FleetWatch,
    hangar::{Hangar, Options, spec},
    scripted::Script,
    stubs::Stubs,
};

/// A server, a connection to it, and the models that it may load.
#[derive(Debug)]
pub struct TestServer {
    /// The server.
    pub hangar: Hangar,
    /// A client of it.
    pub client: Client,
    /// Its stubs.
    pub stubs: Stubs,
    /// Where models are.
    pub fixtures: Fixtures,
}

/// What every answer in these tests goes on from.
const PROMPT: &str = "Hello";

impl TestServer {
    /// A server with real engines.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn real() -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let options = Options::new(&fixtures);
        Self::open(fixtures, options).await
    }

    /// A server with debug assertions and scripted workers.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn scripted() -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let options = Options::scripted(&fixtures).checked();
        Self::open(fixtures, options).await
    }

    /// A server with these options, which may load these models.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn open(fixtures: Fixtures, options: Options) -> Result<Self> {
        let hangar = Hangar::start(options).await?;
        let client = hangar.client().await?;
        Ok(Self {
            hangar,
            stubs: Stubs::new(&client),
            client,
            fixtures,
        })
    }

    /// Kills the server and starts another one.
    ///
    /// # Errors
    ///
    /// When that does not start.
    pub async fn after_a_kill(self, options: Options) -> Result<Self> {
        let Self {
            hangar, fixtures, ..
        } = self;
        hangar.kill()?;
        Self::open(fixtures, options).await
    }

    /// Everything that is told to watchers from now on.
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
