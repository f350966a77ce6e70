//! The scripted model `m` of a server, and the ways to hold it in a state.

use anyhow::{Context, Result};
use hangar_client::{
    Error, Load,
    v1::{ModelLoad, ModelSpec, ModelState, ModelStatus, RestartMode},
};
use tokio::time::timeout;

use super::{DEADLINE, MODEL, TestServer, Transitions, restarting, spec};
use crate::{
    background::Background,
    scripted::{Events, Gate, ScriptedEvent},
};

/// A model that is held in a state of its load.
pub struct HeldModel {
    /// What holds it.
    pub gate: Gate,
    /// Its worker.
    pub pid: u32,
    /// What it goes through from there on.
    pub transitions: Transitions,
    /// The call that waits for it.
    pub load: Background<Result<ModelLoad, Error>>,
}

impl TestServer {
    /// The spec of the model.
    pub fn spec(&self) -> ModelSpec {
        spec(&self.directory)
    }

    /// A load of the model.
    pub fn load_m(&self) -> Load {
        self.client.load(MODEL).spec(self.spec())
    }

    /// Loads the model and gives its status.
    ///
    /// # Errors
    ///
    /// When the load fails.
    pub async fn ready(&self) -> Result<ModelStatus> {
        self.load_m().wait().await?.status.context("no status")
    }

    /// Loads the model, which is restarted up to so many times in a row when it fails, and follows it from READY on.
    ///
    /// # Errors
    ///
    /// When the load fails.
    pub async fn ready_with_restarts(&self, attempts: u32) -> Result<Transitions> {
        let mut transitions = self.follow(MODEL).await?;
        let spec = restarting(&self.directory, RestartMode::OnFailure, attempts);
        self.client.load(MODEL).spec(spec).wait().await?;
        transitions.until(ModelState::Ready).await?;
        Ok(transitions)
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

    /// Loads the model, whose script is [`crate::scripted::Script::gated`], as far as STARTING, LOADING or WARMING.
    ///
    /// # Errors
    ///
    /// When it does not come that far.
    pub async fn hold(&self, state: ModelState) -> Result<HeldModel> {
        self.hold_load(self.load_m(), state).await
    }

    /// As [`Self::hold`], for a load of its own kind.
    ///
    /// # Errors
    ///
    /// As [`Self::hold`].
    pub async fn hold_load(&self, load: Load, state: ModelState) -> Result<HeldModel> {
        let gate = match state {
            ModelState::Starting => self.gate("ready")?,
            ModelState::Loading => self.gate("load")?,
            ModelState::Warming => self.gate("warm")?,
            state => anyhow::bail!("there is no gate for {state:?}"),
        };
        let mut events = self.events()?;
        let mut transitions = self.follow(MODEL).await?;
        let load = Background::start(load.wait());
        transitions.until(state).await?;
        let pid = timeout(DEADLINE, events.until(ScriptedEvent::Started)).await??;
        Ok(HeldModel {
            gate,
            pid,
            transitions,
            load,
        })
    }
}
