//! What is looked at before a load is dispatched: what is refused here has changed nothing.

use std::time::Duration;

use super::{
    super::{command::Replacement, source::SourceError},
    CheckedLoad, DEMO, LoadError, LoadOptions, Loader, Reload,
};
use crate::{
    catalog::{ModelOrigin, RegisterError},
    failpoint,
    model::{Failure, ModelId, Reason, Spec, StateKind},
};

/// How often what is to replace a worker is inspected that is changed meanwhile.
const MAX_INSPECTIONS: usize = 4;

/// How long the file systems are waited for that a call names.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(5);

impl Loader {
    /// Checks a load as far as that can be done without beginning it.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub(in crate::lifecycle) async fn check_load(
        &self,
        name: &ModelId,
        options: &LoadOptions,
    ) -> Result<(), LoadError> {
        self.prepare(name, options).await.map(drop)
    }

    /// As [`Self::check_load`]. Says also whether the load is to replace a worker.
    pub(super) async fn prepare(
        &self,
        name: &ModelId,
        options: &LoadOptions,
    ) -> Result<Option<Replacement>, LoadError> {
        self.check_request(name, options).await?;
        self.plan_replacement(name, options).await
    }

    /// As [`Self::prepare`], until what was looked at is what will be loaded.
    pub(super) async fn prepare_dispatch(
        &self,
        name: &ModelId,
        options: &LoadOptions,
    ) -> Result<CheckedLoad<'_>, LoadError> {
        for _ in 0..MAX_INSPECTIONS {
            let replacement = self.prepare(name, options).await?;
            failpoint::hold("load-order", Some(name.as_str())).await;
            let locked = self.desired_state.lock(name).await;
            if self.context.is_closing() {
                return Err(LoadError::ShuttingDown);
            }
            let is_inspected = match &replacement {
                Some(replacement) => {
                    let id = locked.id();
                    self.is_inspected(id, options, replacement).await?
                }
                None => true,
            };
            if is_inspected {
                return Ok(CheckedLoad {
                    locked,
                    replacement,
                });
            }
        }
        let message = "the model was changed each time that what is to be loaded had been inspected; nothing was loaded, and it \
                       serves on: load it again";
        Err(LoadError::Unfit(Failure::new(
            Reason::LoadCancelled,
            message,
        )))
    }

    /// Checks whether a load may be begun at all, for the session that it is for.
    pub(super) fn check_caller(&self, options: &LoadOptions) -> Result<(), LoadError> {
        if self.context.is_closing() {
            return Err(LoadError::ShuttingDown);
        }
        if let Some(session) = &options.session {
            self.sessions.get(session)?;
        }
        Ok(())
    }

    /// Checks what is asked for, and whether there is what it names.
    async fn check_request(&self, name: &ModelId, options: &LoadOptions) -> Result<(), LoadError> {
        self.check_caller(options)?;
        let entry = self.context.catalog.get(name).await?;
        let force = options.reload == Reload::Always;
        let spec = match (&options.spec, &entry) {
            (Some(spec), Some(entry)) if *entry.spec != *spec && !force => {
                let conflict = RegisterError::Conflict(Box::new(entry.clone()));
                return Err(LoadError::Register(conflict));
            }
            (Some(spec), Some(entry))
                if *entry.spec != *spec && entry.origin == ModelOrigin::File =>
            {
                let declared = RegisterError::Declared(entry.id.clone());
                return Err(LoadError::Register(declared));
            }
            (Some(spec), _) => spec,
            (None, Some(entry)) => &*entry.spec,
            (None, None) if name.as_str() == DEMO => return Ok(()),
            (None, None) => return Err(self.context.unknown(name).await.into()),
        };
        let state = self.context.tracked(name).map(|model| model.status().state);
        let joins = !force && state.is_some_and(StateKind::is_active);
        if joins {
            // It has what it needs, or says so.
            return self.check_sources(spec).await.map_err(Into::into);
        }
        let present = self.context.roots.check_presence(spec, VALIDATION_TIMEOUT);
        present.await.map_err(Into::into)
    }

    /// Whether a model may be loaded from what `spec` names. What is missing may come, and so may the answer of a file
    /// system: a load says so.
    ///
    /// # Errors
    ///
    /// When they may not.
    pub(in crate::lifecycle) async fn check_sources(&self, spec: &Spec) -> Result<(), SourceError> {
        match self.context.roots.check(spec, VALIDATION_TIMEOUT).await {
            Err(error) if error.is_refusal() => Err(error),
            _ => Ok(()),
        }
    }
}
