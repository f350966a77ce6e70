//! Loads and unloads of all models: which ones these are, and what holds for them together.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{
    super::command::{LoadTicket, UnloadReport},
    LoadError, LoadOptions, Loader, UnloadError, UnloadOptions,
};
use crate::{
    catalog::StorageError,
    model::{ModelId, Status},
};

/// How the unload of one of several models ended.
#[derive(Debug)]
pub struct UnloadOutcome {
    /// The model.
    pub model: ModelId,
    /// What the unload did, or why it was not begun.
    pub outcome: Result<UnloadReport, UnloadError>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Loader {
    /// Loads all models that are registered, but those that are FAILED. Answers, for each by itself, when its driver has
    /// taken the instruction, or refused it.
    ///
    /// # Errors
    ///
    /// What would be wrong with each of the loads, or that the catalog cannot be read.
    pub(in crate::lifecycle) async fn load_all(
        &self,
        options: LoadOptions,
    ) -> Result<Vec<(ModelId, Result<LoadTicket, LoadError>)>, LoadError> {
        let (models, options) = self.all_to_load(options).await?;
        Ok(self.load_each(models, &options).await)
    }

    /// The loads that [`Self::load_all`] would have refused, and why.
    ///
    /// # Errors
    ///
    /// As [`Self::load_all`].
    pub(in crate::lifecycle) async fn check_all(
        &self,
        options: LoadOptions,
    ) -> Result<Vec<(ModelId, LoadError)>, LoadError> {
        let (models, options) = self.all_to_load(options).await?;
        Ok(self.check_each(models, &options).await)
    }

    async fn all_to_load(
        &self,
        options: LoadOptions,
    ) -> Result<(Vec<ModelId>, LoadOptions), LoadError> {
        self.check_caller(&options)?;
        let options = LoadOptions {
            // What is loaded together does not evict each other.
            may_evict: false,
            ..options
        };
        Ok((self.loadable().await?, options))
    }

    /// Unloads all models that have a worker or are about to get one, and sees to it that others are not loaded later
    /// because they were asked for; without force not the required ones.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read or written.
    pub(in crate::lifecycle) async fn unload_all(
        &self,
        options: UnloadOptions,
    ) -> Result<Vec<UnloadOutcome>, StorageError> {
        let stays = |status: &Status| {
            let model = self.context.model(&status.model_id);
            !options.force && model.is_some_and(|model| model.facts().entry.spec.required)
        };
        let mut active = self.context.active();
        active.retain(|status| !stays(status));
        self.clear_desired_of_inactive(options.force).await?;
        let unload = |model: ModelId| {
            let options = options.clone();
            async move {
                let began = Instant::now();
                let unloaded = self.unload(&model, options).await;
                UnloadOutcome {
                    outcome: unloaded.map(|(_, report)| report),
                    elapsed: began.elapsed(),
                    model,
                }
            }
        };
        let unloads = active.into_iter().map(|status| unload(status.model_id));
        Ok(join_all(unloads).await)
    }
}
