//! What is looked at before an order is written down: what is refused here has changed nothing.

use std::time::Duration;

use tokio::time::timeout;

use super::{super::source::SourceError, DEMO, LoadError, LoadOptions, Loader};
use crate::{
    catalog::RegisterError,
    model::{Failure, ModelId, Spec, Stage},
};

/// How long a file system is waited for. What it does not tell by then shows when the model is loaded.
const FILE_SYSTEM_TIMEOUT: Duration = Duration::from_secs(5);

/// What is said of a model that is not loaded anew.
const SERVES_ON: &str = "Nothing was changed, and the model serves on as it was loaded.";

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
        if self.context.is_closing() {
            return Err(LoadError::ShuttingDown);
        }
        if let Some(session) = &options.session {
            self.sessions.get(session)?;
        }
        let entry = self.context.catalog.get(name).await?;
        let spec = match (&options.spec, &entry) {
            (Some(spec), Some(entry)) if *entry.spec != *spec && !options.force => {
                let conflict = RegisterError::Conflict(Box::new(entry.clone()));
                return Err(LoadError::Register(conflict));
            }
            (Some(spec), _) => spec,
            (None, Some(entry)) => &*entry.spec,
            (None, None) if name.as_str() == DEMO => return Ok(()),
            (None, None) => return Err(self.context.unknown(name).await.into()),
        };
        let stage = self.context.tracked(name).map(|model| model.status().stage);
        let joins = !options.force && stage.is_some_and(Stage::is_active);
        if joins {
            // It has what it needs, or tells.
            return self.check_sources(spec).await.map_err(Into::into);
        }
        let present = timeout(FILE_SYSTEM_TIMEOUT, self.context.roots.check_presence(spec)).await;
        present.unwrap_or(Ok(())).map_err(Into::into)
    }

    /// Checks with a worker of its own that what a reload is to load can be loaded, where a worker serves that
    /// would have to go.
    ///
    /// # Errors
    ///
    /// When it cannot.
    pub(super) async fn check_reload(
        &self,
        name: &ModelId,
        options: &LoadOptions,
    ) -> Result<(), LoadError> {
        let model = self.context.tracked(name);
        let Some(model) = model.filter(|model| model.status().stage == Stage::Ready) else {
            return Ok(());
        };
        let registered = model.facts().entry.spec.clone();
        let spec = options.spec.as_ref().unwrap_or(&registered);
        let inspected = self
            .inspector
            .inspect_ahead(model.id(), spec, options.may_evict, options.timeout)
            .await;
        inspected.map_err(|error| match error.into() {
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

    /// Whether a model may be loaded from what `spec` names. What is missing may come: a load tells.
    ///
    /// # Errors
    ///
    /// When they may not.
    pub(in crate::lifecycle) async fn check_sources(&self, spec: &Spec) -> Result<(), SourceError> {
        let checked = timeout(FILE_SYSTEM_TIMEOUT, self.context.roots.check(spec)).await;
        match checked.unwrap_or(Ok(())) {
            Err(error) if error.is_refusal() => Err(error),
            _ => Ok(()),
        }
    }
}
