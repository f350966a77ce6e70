//! Switches: an alias moves from one model to another without a gap, or not at all.
//!
//! The alias, what was asked for, and the switch's outcome change in one transaction once the new model is
//! READY. Until then everything on disk is as before, so that a switch which a crash interrupts has never
//! happened. Both models are held meanwhile. [`job`] is what goes on after the caller was answered.

mod job;
mod switches;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use self::{job::SwitchJob, switches::Switches};
use super::{
    context::Context,
    desired_state::BegunSwitch,
    loader::{LoadError, LoadOptions, Loader},
};
use crate::{
    catalog::{CatalogEntry, StorageError},
    model::{
        Failure, ModelId, Reason, Spec, StateKind, Switch, SwitchId, SwitchOutcome, SwitchStrategy,
    },
};

/// How to switch.
#[derive(Clone, Debug)]
pub struct SwitchOptions {
    /// Registers the new model, or has to equal what is registered.
    pub spec: Option<Spec>,
    /// `None`: whatever memory allows.
    pub strategy: Option<SwitchStrategy>,
    /// For the old model's requests.
    pub drain_timeout: Duration,
    /// For the new model's load.
    pub timeout: Duration,
}

/// A switch that is under way.
#[derive(Clone, Debug)]
pub struct SwitchTicket {
    /// The switch.
    pub switch: Switch,
    /// How long it takes, from what is known.
    pub estimate: Option<Duration>,
}

/// A switch that was not begun.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The new model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The alias is a model's id.
    #[error("{0} is a model's id; only an alias can be switched")]
    NotAnAlias(ModelId),
    /// Another switch of the alias is under way.
    #[error("another switch of {0} is under way; wait for its outcome in WatchStatus")]
    InProgress(ModelId),
}

/// A switch whose new model's entry is not known yet.
struct Plan {
    context: Arc<Context>,
    alias: ModelId,
    from: Option<ModelId>,
    strategy: Option<SwitchStrategy>,
}

/// Moves aliases.
pub(super) struct Switcher {
    context: Arc<Context>,
    loader: Arc<Loader>,
    switches: Arc<Switches>,
}

impl Switcher {
    pub(super) fn new(context: Arc<Context>, loader: Arc<Loader>) -> Arc<Self> {
        Arc::new(Self {
            context,
            loader,
            switches: Arc::default(),
        })
    }

    /// Points `alias` at the model `to` and answers once that is under way.
    ///
    /// # Errors
    ///
    /// See [`SwitchError`].
    pub(super) async fn switch(
        &self,
        alias: &ModelId,
        to: &ModelId,
        options: SwitchOptions,
    ) -> Result<SwitchTicket, SwitchError> {
        self.check_switch(alias, to, &options).await?;
        let begun = self.record(alias, to, &options).await?;
        let switch = begun.switch.clone();
        let estimate = self.estimate(&begun.to);
        let job = Arc::new(SwitchJob::new(
            self.loader.clone(),
            self.switches.clone(),
            begun,
            options.drain_timeout,
            options.timeout,
        ));
        self.context.event_log.switched(switch.clone());
        self.begin(job);
        Ok(SwitchTicket { switch, estimate })
    }

    /// Begins the switch on disk, if the alias can be switched.
    async fn record(
        &self,
        alias: &ModelId,
        to: &ModelId,
        options: &SwitchOptions,
    ) -> Result<BegunSwitch, SwitchError> {
        let locked = self.loader.desired_state().lock_switch(alias, to).await;
        self.check_alias(alias).await?;
        let spec = options.spec.clone();
        let spec = self.loader.spec_to_load(locked.to(), spec).await;
        let spec = spec.map_err(LoadError::from)?;
        let plan = Plan {
            context: self.context.clone(),
            alias: alias.clone(),
            from: locked.from().cloned(),
            strategy: options.strategy,
        };
        let make = move |to: &CatalogEntry| plan.switch(to);
        // While the alias is locked: nobody else finds that it can be switched.
        let put = |switch: &Switch| self.switches.put(switch);
        match locked.begin(spec, make, put).await {
            Ok(begun) => Ok(begun),
            Err(error) => Err(self.loader.not_registered(error).await.into()),
        }
    }

    /// Carries `job` out. What a panic leaves of it goes back, or to its end where the alias has moved.
    fn begin(&self, job: Arc<SwitchJob>) {
        let (tasks, left) = (self.context.tasks.clone(), job.clone());
        let recover = move || {
            tasks.background("switch-recovery", left.recover());
        };
        let tasks = &self.context.tasks;
        tasks.owned("switch", job.carry_out(), recover);
    }

    /// Checks a switch without beginning it.
    ///
    /// # Errors
    ///
    /// See [`SwitchError`].
    pub(super) async fn check_switch(
        &self,
        alias: &ModelId,
        to: &ModelId,
        options: &SwitchOptions,
    ) -> Result<(), SwitchError> {
        self.check_alias(alias).await?;
        let load = LoadOptions {
            spec: options.spec.clone(),
            ..LoadOptions::new(options.timeout)
        };
        Ok(self.loader.check_load(to, &load).await?)
    }

    /// Whether `alias` can be switched now.
    async fn check_alias(&self, alias: &ModelId) -> Result<(), SwitchError> {
        let taken = self
            .context
            .catalog
            .get(alias)
            .await
            .map_err(LoadError::from)?;
        if taken.is_some_and(|entry| entry.id == *alias) {
            return Err(SwitchError::NotAnAlias(alias.clone()));
        }
        if self.switches.is_busy(alias) {
            return Err(SwitchError::InProgress(alias.clone()));
        }
        Ok(())
    }

    /// The last switch of each alias, by alias, at most `limit`.
    pub(super) fn switches(&self, limit: usize) -> Vec<Switch> {
        self.switches.first(limit)
    }

    /// See [`Switches::replaced_by`].
    pub(super) fn replaced_by(&self, id: &ModelId) -> Option<ModelId> {
        self.switches.replaced_by(id)
    }

    /// Takes over what is known of earlier switches. One that was interrupted has never happened.
    pub(super) async fn recover(&self) -> Result<(), StorageError> {
        for mut switch in self.context.catalog.switches(usize::MAX).await? {
            if switch.outcome.is_none() {
                switch.outcome = Some(SwitchOutcome::RolledBack);
                switch.ended = Some(SystemTime::now());
                switch.failure = Some(Failure::new(
                    Reason::ShuttingDown,
                    "the server ended before the switch did; switch again",
                ));
                if let Err(error) = self.context.catalog.end_switch(&switch, None).await {
                    tracing::error!(switch = %switch.id, %error, "cannot record the end of a switch");
                }
            }
            self.switches.put(&switch);
        }
        Ok(())
    }

    fn estimate(&self, to: &CatalogEntry) -> Option<Duration> {
        match self.context.model(&to.id) {
            Some(model) if model.status().state == StateKind::Ready => Some(Duration::ZERO),
            Some(model) => model.facts().learned.metadata.load_duration,
            None => to.learned.metadata.load_duration,
        }
    }
}

impl Plan {
    /// The switch to the model of the entry `to`.
    fn switch(self, to: &CatalogEntry) -> Switch {
        Switch {
            id: SwitchId::random(),
            strategy: self.strategy(to),
            alias: self.alias,
            from: self.from,
            to: to.id.clone(),
            outcome: None,
            failure: None,
            began: SystemTime::now(),
            ended: None,
        }
    }

    fn strategy(&self, to: &CatalogEntry) -> SwitchStrategy {
        let context = &self.context;
        let active = |id: &ModelId| {
            let model = context.model(id);
            model.is_some_and(|model| model.status().state.is_active())
        };
        self.strategy.unwrap_or_else(|| {
            // Without knowing what it needs, the one that can always be rolled back is tried.
            let fits = context.fits(to);
            let frees_memory = self.from.as_ref();
            let frees_memory = frees_memory.is_some_and(|old| *old != to.id && active(old));
            if active(&to.id) || fits || !frees_memory {
                SwitchStrategy::LoadFirst
            } else {
                SwitchStrategy::UnloadFirst
            }
        })
    }
}
