//! Carrying a switch out: loading, moving the alias, unloading, and going back where that fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use super::switches::Switches;
use crate::{
    catalog::{CatalogEntry, RegisterError},
    lifecycle::{
        command::{DriverCommand, LoadInstruction, UnloadCommand},
        context::Context,
        desired_state::{BegunSwitch, DesiredState},
        holders::Holder,
        loader::Loader,
    },
    model::{Failure, ModelId, Reason, Switch, SwitchOutcome, SwitchStrategy},
};

/// What a switch goes on with once it has begun.
pub(super) struct SwitchJob {
    context: Arc<Context>,
    desired_state: Arc<DesiredState>,
    loader: Arc<Loader>,
    switches: Arc<Switches>,
    begun: BegunSwitch,
    /// For the old model's requests.
    drain_timeout: Duration,
    /// For the new model's load.
    timeout: Duration,
    /// Whether the old model was told to go, so that it has to be brought back.
    unloaded_old: AtomicBool,
}

impl SwitchJob {
    /// What is to be done for the switch that has `begun`.
    pub(super) fn new(
        loader: Arc<Loader>,
        switches: Arc<Switches>,
        begun: BegunSwitch,
        drain_timeout: Duration,
        timeout: Duration,
    ) -> Self {
        Self {
            context: loader.context().clone(),
            desired_state: loader.desired_state().clone(),
            loader,
            switches,
            begun,
            drain_timeout,
            timeout,
            unloaded_old: AtomicBool::new(false),
        }
    }

    /// Does it.
    pub(super) async fn carry_out(self: Arc<Self>) {
        let mut switch = self.begun.switch.clone();
        if switch.strategy == SwitchStrategy::UnloadFirst {
            self.unload_old(&switch).await;
        }
        let result = match self.load_new(&self.begun.to, self.timeout).await {
            Ok(()) => self.move_alias(&mut switch).await,
            Err(failure) => Err(failure),
        };
        self.end(switch, result).await;
    }

    /// Brings what has begun to its end after a panic.
    pub(super) async fn recover(self: Arc<Self>) {
        let mut switch = self.begun.switch.clone();
        let known = self.context.catalog.switch_after_writes(&switch.id).await;
        let result = match known {
            Ok(Some(ended)) if ended.outcome.is_some() => {
                switch = ended;
                Ok(self.announce_recorded(&switch).await)
            }
            // What is not known to have happened has not.
            _ => {
                self.release_new();
                Err(Failure::of_panicked_task())
            }
        };
        self.end(switch, result).await;
    }

    /// The new model is not waited for any more: its load, which nobody else wants, is not in the way of the old one's.
    fn release_new(&self) {
        let switch = &self.begun.switch;
        let (new, holder) = (&switch.to, Holder::Switch(switch.id.clone()));
        if !self.begun.on_demand.contains(new) {
            self.desired_state.release(new, &holder);
        }
    }

    /// Tells of a switch whose outcome is on disk, and whether the old model is to be unloaded.
    async fn announce_recorded(&self, switch: &Switch) -> bool {
        if switch.outcome != Some(SwitchOutcome::Succeeded) {
            return false;
        }
        self.desired_state.recover_moved(switch).await
    }

    /// Tells how the switch ended, goes back if it failed, and lets go of its models. A `result` that is good says whether the
    /// old model is to be unloaded.
    async fn end(&self, mut switch: Switch, result: Result<bool, Failure>) {
        let unload_old = match result {
            Ok(unload_old) => unload_old,
            Err(failure) => {
                if !self.roll_back(&mut switch, failure).await {
                    return;
                }
                false
            }
        };
        self.switches.put(&switch);
        self.context.event_log.switched(switch.clone());
        tracing::info!(
            switch = %switch.id, alias = %switch.alias, to = %switch.to, outcome = ?switch.outcome,
            message = switch.failure.as_ref().map(|failure| failure.message.as_str()), "model.switch"
        );
        self.release_both(&switch, unload_old);
        if let Some(old) = switch.from.as_ref().filter(|_| unload_old) {
            self.unload_if_unneeded(old).await;
        }
    }

    /// Holds the switch's models no more. What a session that has closed meanwhile left to the switch is
    /// unloaded.
    fn release_both(&self, switch: &Switch, unload_old: bool) {
        let holder = Holder::Switch(switch.id.clone());
        for model in switch.models() {
            let old = Some(model) == switch.from.as_ref();
            if self.begun.on_demand.contains(model) || (old && unload_old) {
                self.desired_state.release_and_keep(model, &holder);
            } else {
                self.desired_state.release(model, &holder);
            }
        }
    }

    /// Unloads the old model if nobody else needs it. What was asked for stays as it is.
    async fn unload_old(&self, switch: &Switch) {
        let Some(old) = &switch.from else {
            return;
        };
        // Nobody comes to want it before its driver has heard of this.
        let locked = self.desired_state.lock_at_once(old).await;
        let own = Holder::Switch(switch.id.clone());
        let held = self
            .context
            .holders
            .of(old)
            .iter()
            .any(|holder| *holder != own);
        let desired = self.desired_state.old_is_desired(switch).await;
        // What cannot be read is taken for wanted.
        if held || desired.unwrap_or(true) {
            return;
        }
        let model = self.context.model(old);
        if model.is_none_or(|model| !model.status().state.is_active()) {
            return;
        }
        self.unloaded_old.store(true, Ordering::Relaxed);
        let unloaded = match locked.unload_for_now(self.drain_timeout).await {
            Some(queued) => queued.report.wait().await.is_some(),
            None => false,
        };
        self.unloaded_old.store(unloaded, Ordering::Relaxed);
    }

    async fn load_new(&self, to: &CatalogEntry, timeout: Duration) -> Result<(), Failure> {
        let instruction = LoadInstruction {
            may_evict: true,
            ..LoadInstruction::by_the_server(timeout)
        };
        self.loader.load_and_wait(to, instruction).await
    }

    /// Moves the alias, and says whether the old model is to be unloaded unless somebody holds it. Watchers hear of the aliases
    /// before they hear that the switch has ended.
    async fn move_alias(&self, switch: &mut Switch) -> Result<bool, Failure> {
        let ended = Switch {
            outcome: Some(SwitchOutcome::Succeeded),
            ended: Some(SystemTime::now()),
            ..switch.clone()
        };
        let moved = self.desired_state.move_alias(&ended).await;
        let unload_old = moved.map_err(|error| match error {
            RegisterError::Storage(error) => error.into(),
            other => Failure::new(Reason::ModelUnloaded, other.to_string()),
        })?;
        *switch = ended;
        Ok(unload_old)
    }

    /// Goes back to how it was before the switch. Says whether that came to an end; a server that is shutting
    /// down leaves the switch open, and the next start finds that it has never happened.
    async fn roll_back(&self, switch: &mut Switch, failure: Failure) -> bool {
        let mut failure = failure;
        let unloaded_old = self.unloaded_old.load(Ordering::Relaxed);
        let mut outcome = SwitchOutcome::RolledBack;
        if unloaded_old && let Err(second) = self.reload_old(switch).await {
            outcome = SwitchOutcome::RollbackFailed;
            failure.message = format!(
                "{}; then the old model could not be brought back: {}",
                failure.message, second.message
            );
        }
        if self.context.is_closing() {
            return false;
        }
        switch.outcome = Some(outcome);
        switch.failure = Some(failure);
        switch.ended = Some(SystemTime::now());
        if let Err(error) = self.context.catalog.end_switch(switch, None).await {
            tracing::error!(switch = %switch.id, %error, "cannot record the end of a switch");
        }
        true
    }

    async fn reload_old(&self, switch: &Switch) -> Result<(), Failure> {
        let Some(old) = &switch.from else {
            return Ok(());
        };
        let gone = || Failure::new(Reason::ModelUnloaded, "it is no longer registered");
        let entry = self.context.catalog.get(old).await?;
        let entry = entry.filter(|entry| entry.id == *old).ok_or_else(gone)?;
        // The switch's own time-out is the new model's.
        self.load_new(&entry, self.context.limits.load_timeout)
            .await
    }

    /// Has the driver of the model `id` unload it, if there is one and nobody wants the model by then.
    async fn unload_if_unneeded(&self, id: &ModelId) {
        if let Some(model) = self.context.model(id) {
            let drain = self.drain_timeout;
            let command =
                |reply| DriverCommand::Unload(UnloadCommand::only_if_unneeded(drain, reply));
            model.send_and_wait(command).await;
        }
    }
}
