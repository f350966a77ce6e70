//! Switches of aliases.

use hangar_client::v1;

use super::reason;
use crate::{
    model::{Switch, SwitchOutcome, SwitchStrategy},
    wire::text,
};

/// A switch of an alias.
pub(in crate::rpc) fn switch(switch: &Switch) -> v1::SwitchInfo {
    let failure = switch.failure.as_ref();
    let outcome = match switch.outcome {
        None => v1::SwitchOutcome::Unspecified,
        Some(SwitchOutcome::Succeeded) => v1::SwitchOutcome::Succeeded,
        Some(SwitchOutcome::RolledBack) => v1::SwitchOutcome::RolledBack,
        Some(SwitchOutcome::RollbackFailed) => v1::SwitchOutcome::RollbackFailed,
    };
    v1::SwitchInfo {
        switch_id: switch.id.to_string(),
        alias: switch.alias.to_string(),
        from_model_id: text(switch.from.as_ref()),
        to_model_id: switch.to.to_string(),
        strategy: switch_strategy(switch.strategy).into(),
        outcome: outcome.into(),
        reason: reason(failure),
        message: failure.map(|f| f.message.clone()).unwrap_or_default(),
        start_time: Some(switch.began.into()),
        end_time: switch.ended.map(Into::into),
    }
}

/// In which order a switch loads and unloads.
pub(in crate::rpc) fn switch_strategy(strategy: SwitchStrategy) -> v1::SwitchStrategy {
    match strategy {
        SwitchStrategy::LoadFirst => v1::SwitchStrategy::LoadFirst,
        SwitchStrategy::UnloadFirst => v1::SwitchStrategy::UnloadFirst,
    }
}
