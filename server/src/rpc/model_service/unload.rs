//! UnloadModel.

use std::time::{Duration, Instant};

use hangar_client::v1::{
    ModelUnload, UnloadModelRequest, UnloadModelResponse, unload_model_request::Target,
};
use tonic::Status;

use super::{ModelHandlers, item_error};
use crate::{
    lifecycle::UnloadOptions,
    model::ModelId,
    rpc::{convert, error::ApiError, validate::Violations},
};

impl ModelHandlers {
    pub(super) async fn unload(
        &self,
        request: UnloadModelRequest,
    ) -> Result<UnloadModelResponse, ApiError> {
        let mut violations = Violations::default();
        violations.request_id(&request.request_id);
        let drain = violations.duration("drain_timeout", request.drain_timeout, Duration::ZERO);
        let one = match &request.target {
            Some(Target::ModelId(id)) => violations.model_id("model_id", id),
            Some(Target::All(true)) => None,
            Some(Target::All(false)) | None => {
                violations.add("model_id", "is required, or all");
                None
            }
        };
        violations.finish()?;
        let drain_timeout = if request.force {
            Duration::ZERO
        } else {
            drain.unwrap_or(self.options.drain_timeout)
        };
        let session = match &*request.session_id {
            "" => None,
            id => Some(self.fleet.session(&id.to_owned().into())?.name),
        };
        let options = UnloadOptions {
            drain_timeout,
            force: request.force,
            session,
        };
        let unloads = match one {
            Some(id) => vec![self.unload_one(&id, options).await?],
            None => self.unload_all(options).await?,
        };
        let models_remaining = self
            .fleet
            .active()
            .iter()
            .map(|status| status.model_id.to_string())
            .collect();
        Ok(UnloadModelResponse {
            unloads,
            models_remaining,
        })
    }

    /// Unloads all models that have a worker or are about to get one, and sees to it that others are not
    /// loaded later because they were asked for; without force not the required ones.
    async fn unload_all(&self, options: UnloadOptions) -> Result<Vec<ModelUnload>, ApiError> {
        let stays = |id: &ModelId| {
            let model = self.fleet.tracked(id);
            !options.force && model.is_some_and(|model| model.facts().entry.spec.required)
        };
        let mut active = self.fleet.active();
        active.retain(|status| !stays(&status.model_id));
        self.fleet.clear_desired_of_inactive(options.force).await?;
        let unload = |id: ModelId| {
            let options = options.clone();
            async move {
                let unload = self.unload_one(&id, options).await;
                unload.unwrap_or_else(|error| ModelUnload {
                    model_id: id.to_string(),
                    error: Some(item_error(&Status::from(error))),
                    ..ModelUnload::default()
                })
            }
        };
        let unloads = active.into_iter().map(|status| unload(status.model_id));
        Ok(futures::future::join_all(unloads).await)
    }

    async fn unload_one(
        &self,
        name: &ModelId,
        options: UnloadOptions,
    ) -> Result<ModelUnload, ApiError> {
        let began = Instant::now();
        let ended = self.fleet.unload(name, options).await;
        let (id, report) =
            ended.map_err(|error| ApiError::of_unload(error, &self.fleet.resolve(name)))?;
        Ok(convert::unloaded(&id, &report, began.elapsed()))
    }
}
