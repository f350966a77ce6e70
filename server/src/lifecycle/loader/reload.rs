//! Whether a load is to replace a worker that serves. The model's driver decides, when it comes to the load.

use std::sync::Arc;

use super::{super::command::Replacement, LoadError, LoadOptions, Loader, Reload};
use crate::model::{Failure, LoadId, ModelId, Spec, StateKind};

/// The message about a model that is not loaded anew.
const SERVES_ON: &str = "Nothing was changed, and the model serves on as it was loaded.";

impl Loader {
    /// Whether the load of `name` is to replace a worker. What is to come instead of one that serves is inspected.
    ///
    /// # Errors
    ///
    /// When that cannot be loaded.
    pub(super) async fn plan_replacement(
        &self,
        name: &ModelId,
        options: &LoadOptions,
    ) -> Result<Option<Replacement>, LoadError> {
        // First of all: what is looked at afterwards is as new or newer.
        let load = self.load_seen(name);
        let due = match options.reload {
            Reload::Never => false,
            Reload::IfOutdated => load.is_some() && self.is_outdated(name).await,
            Reload::Always => true,
        };
        if !due {
            return Ok(None);
        }
        let inspected = self.check_reload(name, options).await?;
        let model = self.context.catalog.resolve(name);
        Ok(Some(Replacement {
            model,
            load,
            inspected,
        }))
    }

    /// Whether what the model `id` would be loaded from by now was inspected for `replacement`, or need not be: its spec may
    /// have been changed since, and a load may have made it READY. With the model locked.
    pub(super) async fn is_inspected(
        &self,
        id: &ModelId,
        options: &LoadOptions,
        replacement: &Replacement,
    ) -> Result<bool, LoadError> {
        if self.load_seen(id).is_none() {
            return Ok(true);
        }
        let entry = self.context.catalog.get(id).await?;
        let inspected = replacement.inspected.as_ref();
        let wanted = options.spec.as_ref();
        let wanted = wanted.or(entry.as_ref().map(|entry| &*entry.spec));
        Ok(wanted.is_none_or(|wanted| inspected.is_some_and(|inspected| **inspected == *wanted)))
    }

    /// The load that gave the model `name` its worker, where one serves.
    fn load_seen(&self, name: &ModelId) -> Option<LoadId> {
        let status = self.context.tracked(name)?.status();
        let serves = status.state == StateKind::Ready;
        status.load_id.clone().filter(|_| serves)
    }

    /// Whether the model `name` is READY, and its spec or its files have changed since.
    async fn is_outdated(&self, name: &ModelId) -> bool {
        match self.context.tracked(name) {
            Some(model) => model.reload_reason().await.is_some(),
            None => false,
        }
    }

    /// Checks with a worker of its own that what a reload is to load can be loaded, where a worker serves that
    /// would have to go. Gives what was looked at, if anything was.
    ///
    /// # Errors
    ///
    /// When it cannot.
    async fn check_reload(
        &self,
        name: &ModelId,
        options: &LoadOptions,
    ) -> Result<Option<Arc<Spec>>, LoadError> {
        let model = self.context.tracked(name);
        let Some(model) = model.filter(|model| model.status().state == StateKind::Ready) else {
            return Ok(None);
        };
        let spec = match &options.spec {
            Some(spec) => Arc::new(spec.clone()),
            None => model.facts().entry.spec.clone(),
        };
        let inspected = self
            .inspector
            .inspect_ahead(model.id(), &spec, options.may_evict, options.timeout)
            .await;
        inspected
            .map(|()| Some(spec))
            .map_err(|error| match error.into() {
                LoadError::Unfit(failure) => {
                    let message = match failure.message.ends_with('.') {
                        true => format!("{} {SERVES_ON}", failure.message),
                        false => format!("{}. {SERVES_ON}", failure.message),
                    };
                    LoadError::Unfit(Failure { message, ..failure })
                }
                other => other,
            })
    }
}
