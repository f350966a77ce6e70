//! A server with one scripted model, and the ways to hold that model in a state.

use std::path::PathBuf;

use anyhow::{Context, Result};
use hangar_client::{
    Client, Error, Load,
    v1::{ModelInfo, ModelLoad, ModelSpec, ModelState, ModelStatus},
};
use tokio::time::timeout;

use crate::{
    background::Background,
    fixtures::Fixtures,
    hangar::{DEADLINE, Hangar, Options, Transitions, spec},
    info,
    scripted::{Event, Events, Gate, Script},
};

/// A server and its model `m`, which does what a script says and is not restarted.
#[derive(Debug)]
pub struct ScriptedServer {
    /// The server.
    pub hangar: Hangar,
    /// A client of it.
    pub client: Client,
    /// Where models are.
    pub fixtures: Fixtures,
    /// The model's directory.
    pub directory: PathBuf,
}

/// A model that is held in a state of its load.
pub struct Held {
    /// What holds it.
    pub gate: Gate,
    /// Its worker.
    pub pid: u32,
    /// What it goes through from there on.
    pub transitions: Transitions,
    /// The call that waits for it.
    pub load: Background<Result<ModelLoad, Error>>,
}

impl ScriptedServer {
    /// A server whose time limits are the default ones. The model is not loaded.
    ///
    /// # Errors
    ///
    /// When the server does not start.
    pub async fn start(script: &Script) -> Result<Self> {
        Self::with(script, |options| options).await
    }

    /// A server with other options. The model is not loaded.
    ///
    /// # Errors
    ///
    /// When the server does not start.
    pub async fn with(script: &Script, change: impl FnOnce(Options) -> Options) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let directory = fixtures.scripted("m", script)?;
        let hangar = Hangar::start(change(Options::scripted(&fixtures))).await?;
        let client = hangar.client().await?;
        Ok(Self {
            hangar,
            client,
            fixtures,
            directory,
        })
    }

    /// The model's spec.
    pub fn spec(&self) -> ModelSpec {
        spec(&self.directory)
    }

    /// A load of the model.
    pub fn load(&self) -> Load {
        self.client.load("m").spec(self.spec())
    }

    /// Loads the model and gives its status.
    ///
    /// # Errors
    ///
    /// When the load fails.
    pub async fn ready(&self) -> Result<ModelStatus> {
        self.load().wait().await?.status.context("no status")
    }

    /// A closed gate for the model's workers.
    ///
    /// # Errors
    ///
    /// When it cannot be made, for example because there is one of this name.
    pub fn gate(&self, name: &str) -> Result<Gate> {
        Gate::new(&self.directory, name)
    }

    /// What the model's workers report from now on.
    ///
    /// # Errors
    ///
    /// When they are listened to already.
    pub fn events(&self) -> Result<Events> {
        Events::new(&self.directory)
    }

    /// Follows the model from now on.
    ///
    /// # Errors
    ///
    /// When the watch cannot be opened.
    pub async fn follow(&self) -> Result<Transitions> {
        self.hangar.follow("m").await
    }

    /// Loads the model, whose script is [`Script::gated`], as far as STARTING, LOADING or WARMING.
    ///
    /// # Errors
    ///
    /// When it does not come that far.
    pub async fn hold(&self, state: ModelState) -> Result<Held> {
        self.hold_load(self.load(), state).await
    }

    /// As [`Self::hold`], for a load of its own kind.
    ///
    /// # Errors
    ///
    /// As [`Self::hold`].
    pub async fn hold_load(&self, load: Load, state: ModelState) -> Result<Held> {
        let gate = match state {
            ModelState::Starting => self.gate("ready")?,
            ModelState::Loading => self.gate("load")?,
            ModelState::Warming => self.gate("warm")?,
            state => anyhow::bail!("there is no gate for {state:?}"),
        };
        let mut events = self.events()?;
        let mut transitions = self.follow().await?;
        let load = Background::start(load.wait());
        transitions.until(state).await?;
        let pid = timeout(DEADLINE, events.until(Event::Started)).await??;
        Ok(Held {
            gate,
            pid,
            transitions,
            load,
        })
    }

    /// Everything that is known about the model.
    ///
    /// # Errors
    ///
    /// When there is no such model.
    pub async fn info(&self) -> Result<ModelInfo> {
        info::model(&self.client, "m").await
    }

    /// Waits until something is known about the model that no transition tells.
    ///
    /// # Errors
    ///
    /// When it is not so within [`DEADLINE`].
    pub async fn info_when(&self, is_so: impl Fn(&ModelInfo) -> bool) -> Result<ModelInfo> {
        info::when(&self.client, "m", is_so).await
    }
}
