//! LoadModel.

use std::time::Duration;

use hangar_client::v1::{
    LoadModelRequest, LoadModelResponse, ModelLoad, load_model_request::Target,
};
use tonic::Status;

use super::{ModelHandlers, item_error};
use crate::{
    catalog::ModelOrigin,
    lifecycle::{Fleet, LoadOptions, LoadTicket, Reload},
    model::{Failure, ModelId, Reason},
    rpc::{
        convert,
        error::ApiError,
        validate::{self, Violations},
    },
    wire,
};

/// What is to be loaded.
enum LoadScope {
    One(ModelId),
    All,
}

impl ModelHandlers {
    pub(super) async fn load(
        &self,
        request: LoadModelRequest,
    ) -> Result<LoadModelResponse, ApiError> {
        let (scope, options) = self.parse(&request)?;
        match scope {
            LoadScope::One(id) if request.validate_only => {
                self.fleet.check_load(&id, &options).await?;
                Ok(LoadModelResponse::default())
            }
            LoadScope::All if request.validate_only => {
                let refused = self.check_all(&options).await?;
                Ok(LoadModelResponse { loads: refused })
            }
            LoadScope::One(id) => {
                let ticket = self.fleet.load(&id, options).await?;
                let load = if request.wait {
                    self.response(&ended(&self.fleet, ticket).await?)
                } else {
                    self.response(&ticket)
                };
                Ok(LoadModelResponse { loads: vec![load] })
            }
            LoadScope::All => self.load_all(options, request.wait).await,
        }
    }

    fn parse(&self, request: &LoadModelRequest) -> Result<(LoadScope, LoadOptions), ApiError> {
        let mut violations = Violations::default();
        violations.request_id(&request.request_id);
        let timeout = violations.duration("timeout", request.timeout, Duration::from_millis(1));
        let scope = match &request.target {
            Some(Target::ModelId(id)) => violations.model_id("model_id", id).map(LoadScope::One),
            Some(Target::All(true)) => Some(LoadScope::All),
            Some(Target::All(false)) | None => {
                violations.add("model_id", "is required, or all");
                None
            }
        };
        let of_all = matches!(scope, Some(LoadScope::All));
        violations.check(
            !of_all || request.spec.is_none(),
            "spec",
            "must not be given with all",
        );
        let spec = request
            .spec
            .as_ref()
            .map(|spec| wire::read_spec(spec, "spec", &mut violations));
        violations.finish()?;
        request
            .spec
            .as_ref()
            .map_or(Ok(()), validate::refuse_later_fields)?;
        let scope = scope.ok_or_else(|| ApiError::invalid("model_id", "is required"))?;
        let options = LoadOptions {
            spec,
            reload: match request.force_reload {
                true => Reload::Always,
                false => Reload::Never,
            },
            session: (!request.session_id.is_empty()).then(|| request.session_id.clone().into()),
            // What is loaded together does not evict each other.
            may_evict: !of_all,
            ..LoadOptions::new(timeout.unwrap_or(self.options.load_timeout))
        };
        Ok((scope, options))
    }

    /// Loads of all models that would be refused.
    async fn check_all(&self, options: &LoadOptions) -> Result<Vec<ModelLoad>, ApiError> {
        self.check_for_each(options)?;
        let loadable = self.fleet.loadable().await?;
        let refused = self.fleet.check_each(loadable, options).await;
        let refused = refused.into_iter();
        Ok(refused
            .map(|(id, error)| self.refused(&id, error.into()))
            .collect())
    }

    /// What would be wrong with each load.
    fn check_for_each(&self, options: &LoadOptions) -> Result<(), ApiError> {
        if self.fleet.is_closing() {
            return Err(ApiError::ShuttingDown);
        }
        match &options.session {
            Some(session) => Ok(self.fleet.session(session).map(drop)?),
            None => Ok(()),
        }
    }

    async fn load_all(
        &self,
        options: LoadOptions,
        wait: bool,
    ) -> Result<LoadModelResponse, ApiError> {
        self.check_for_each(&options)?;
        let loadable = self.fleet.loadable().await?;
        let tickets = self.fleet.load_each(loadable, &options).await;
        let mut loads = Vec::new();
        for (id, ticket) in tickets {
            let load = match ticket.map_err(ApiError::from) {
                Ok(ticket) if wait => {
                    let ended = ended(&self.fleet, ticket).await;
                    ended.map(|ticket| self.response(&ticket))
                }
                Ok(ticket) => Ok(self.response(&ticket)),
                Err(error) => Err(error),
            };
            loads.push(load.unwrap_or_else(|error| self.refused(&id, error)));
        }
        Ok(LoadModelResponse { loads })
    }

    /// The load of the model `id` among others.
    fn refused(&self, id: &ModelId, error: ApiError) -> ModelLoad {
        ModelLoad {
            model_id: id.to_string(),
            status: self.event_log.status(id).as_ref().map(convert::status),
            error: Some(item_error(&Status::from(error))),
            ..ModelLoad::default()
        }
    }

    fn response(&self, ticket: &LoadTicket) -> ModelLoad {
        let id = &ticket.status.model_id;
        let model = self.fleet.tracked(id);
        let estimate = model.and_then(|model| model.facts().learned.metadata.load_duration);
        ModelLoad {
            model_id: id.to_string(),
            load_id: ticket.load_id.to_string(),
            already_loaded: ticket.already_loaded,
            status: Some(convert::status(&ticket.status)),
            estimated_load_time: estimate.and_then(wire::duration_message),
            error: None,
        }
    }
}

/// Waits until the load of `ticket` has ended. A caller that goes away leaves the load running.
///
/// # Errors
///
/// When the model did not become READY.
pub(in crate::rpc) async fn ended(
    fleet: &Fleet,
    mut ticket: LoadTicket,
) -> Result<LoadTicket, ApiError> {
    if let Some(outcome) = ticket.outcome.take() {
        let no_reply = || Err(Failure::of_panicked_task());
        let ended = outcome.wait().await.unwrap_or_else(no_reply);
        ticket.status = ended.map_err(|failure| {
            if fleet.is_closing() {
                ApiError::ShuttingDown
            } else {
                failed(fleet, &ticket.status.model_id, failure)
            }
        })?;
    } else if let Some(failure) = ticket.status.failure.take() {
        return Err(failed(fleet, &ticket.status.model_id, failure));
    }
    Ok(ticket)
}

/// A load of the model `id` has failed: why, and what it has left behind.
fn failed(fleet: &Fleet, id: &ModelId, failure: Failure) -> ApiError {
    let model = fleet.tracked(id).map(|model| model.facts());
    let ended = failure.reason == Reason::LoadCancelled;
    match model {
        Some(facts) if !ended => ApiError::LoadFailed {
            model: id.to_string(),
            desired: facts.desired,
            declared: facts.entry.origin == ModelOrigin::File,
            failure,
        },
        _ => ApiError::Failed(failure),
    }
}
