//! SwitchModel.

use std::time::Duration;

use hangar_client::v1::{self, SwitchModelRequest, SwitchModelResponse};

use super::ModelHandlers;
use crate::{
    lifecycle::SwitchOptions,
    model::SwitchStrategy,
    rpc::{
        convert,
        error::ApiError,
        validate::{self, Violations},
    },
    wire,
};

impl ModelHandlers {
    pub(super) async fn switch(
        &self,
        request: SwitchModelRequest,
    ) -> Result<SwitchModelResponse, ApiError> {
        let mut violations = Violations::default();
        violations.request_id(&request.request_id);
        let alias = violations.model_id("alias", &request.alias);
        let to = violations.model_id("model_id", &request.model_id);
        violations.check(
            request.alias.is_empty() || request.alias != request.model_id,
            "alias",
            "must differ from model_id",
        );
        let strategy = v1::SwitchStrategy::try_from(request.strategy);
        let strategy = violations.check_result("strategy", strategy);
        let strategy = strategy.and_then(chosen);
        let drain = violations.duration("drain_timeout", request.drain_timeout, Duration::ZERO);
        let timeout = violations.duration("timeout", request.timeout, Duration::from_millis(1));
        let spec = request
            .spec
            .as_ref()
            .map(|spec| wire::read_spec(spec, "spec", &mut violations));
        violations.finish()?;
        request
            .spec
            .as_ref()
            .map_or(Ok(()), validate::refuse_later_fields)?;
        let (Some(alias), Some(to)) = (alias, to) else {
            return Err(ApiError::invalid("alias", "is required"));
        };
        let options = SwitchOptions {
            spec,
            strategy,
            drain_timeout: drain.unwrap_or(self.options.drain_timeout),
            timeout: timeout.unwrap_or(self.options.load_timeout),
        };
        if request.validate_only {
            self.fleet.check_switch(&alias, &to, &options).await?;
            return Ok(SwitchModelResponse::default());
        }
        let ticket = self.fleet.switch(&alias, &to, options).await?;
        Ok(SwitchModelResponse {
            switch_id: ticket.switch.id.to_string(),
            strategy: convert::switch_strategy(ticket.switch.strategy).into(),
            estimated_time: ticket.estimate.and_then(wire::duration_message),
        })
    }
}

/// The order that the caller chose; `None`: whatever memory allows.
fn chosen(strategy: v1::SwitchStrategy) -> Option<SwitchStrategy> {
    match strategy {
        v1::SwitchStrategy::Unspecified | v1::SwitchStrategy::Auto => None,
        v1::SwitchStrategy::LoadFirst => Some(SwitchStrategy::LoadFirst),
        v1::SwitchStrategy::UnloadFirst => Some(SwitchStrategy::UnloadFirst),
    }
}
