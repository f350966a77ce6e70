//! LoadModel.

use std::time::Duration;

use hangar_client::v1::{
    LoadModelRequest, LoadModelResponse, ModelLoad, load_model_request::Target,
};
use tonic::Status;

use super::{ModelHandlers, item_error};
use crate::{
    lifecycle::{LoadOptions, LoadTicket, Reload},
    model::ModelId,
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
                let refused = self.fleet.check_all(options).await?.into_iter();
                let refused = refused.map(|(id, error)| self.refused(&id, error.into()));
                Ok(LoadModelResponse {
                    loads: refused.collect(),
                })
            }
            LoadScope::One(id) => {
                let ticket = self.fleet.load(&id, options).await?;
                let load = self.answer(ticket, request.wait).await?;
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
            ..LoadOptions::new(timeout.unwrap_or(self.options.load_timeout))
        };
        Ok((scope, options))
    }

    async fn load_all(
        &self,
        options: LoadOptions,
        wait: bool,
    ) -> Result<LoadModelResponse, ApiError> {
        let mut loads = Vec::new();
        for (id, ticket) in self.fleet.load_all(options).await? {
            let load = match ticket {
                Ok(ticket) => self.answer(ticket, wait).await,
                Err(error) => Err(error.into()),
            };
            loads.push(load.unwrap_or_else(|error| self.refused(&id, error)));
        }
        Ok(LoadModelResponse { loads })
    }

    /// What is said of the load of `ticket`: as it began, or, with `wait`, as it ended.
    async fn answer(&self, ticket: LoadTicket, wait: bool) -> Result<ModelLoad, ApiError> {
        let ticket = match wait {
            true => self.fleet.wait(ticket).await?,
            false => ticket,
        };
        Ok(self.response(&ticket))
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
