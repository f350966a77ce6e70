//! UnloadModel.

use std::time::{Duration, Instant};

use hangar_client::v1::{
    ModelUnload, UnloadModelRequest, UnloadModelResponse, unload_model_request::Target,
};

use super::{ModelHandlers, item_error};
use crate::{
    lifecycle::{UnloadOptions, UnloadOutcome},
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
        let session = match &*request.session_id {
            "" => None,
            id => Some(self.fleet.session(&id.to_owned().into())?.name),
        };
        let options = UnloadOptions {
            drain_timeout: drain.unwrap_or(self.options.drain_timeout),
            force: request.force,
            session,
        };
        let unloads = match one {
            Some(id) => vec![self.unload_one(&id, options).await?],
            None => {
                let unloads = self.fleet.unload_all(options).await?;
                unloads.into_iter().map(one_of_all).collect()
            }
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

/// What is said of the unload of one of several models.
fn one_of_all(unload: UnloadOutcome) -> ModelUnload {
    let UnloadOutcome {
        model,
        outcome,
        elapsed,
    } = unload;
    match outcome {
        Ok(report) => convert::unloaded(&model, &report, elapsed),
        Err(error) => ModelUnload {
            model_id: model.to_string(),
            error: Some(item_error(&ApiError::of_unload(error, &model).into())),
            ..ModelUnload::default()
        },
    }
}
