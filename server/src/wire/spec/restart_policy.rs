//! Restart policies as messages, both ways.

use std::time::Duration;

use hangar_client::v1;

use crate::{
    model::{RestartMode, RestartPolicy},
    wire::{duration_message, non_zero, violations::Violations},
};

pub(super) fn read(
    policy: &v1::RestartPolicy,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> RestartPolicy {
    let default = RestartPolicy::default();
    violations.check_result(
        &at("restart_policy.mode"),
        v1::RestartMode::try_from(policy.mode),
    );
    let mode = match policy.mode() {
        v1::RestartMode::Never => RestartMode::Never,
        v1::RestartMode::Unspecified | v1::RestartMode::OnFailure => RestartMode::OnFailure,
        v1::RestartMode::Always => RestartMode::Always,
    };
    violations.check(
        policy.max_attempts <= 1000,
        &at("restart_policy.max_attempts"),
        "must be at most 1000",
    );
    let tick = Duration::from_millis(10);
    let mut wait = |field: &str, given| violations.duration(&at(field), given, tick);
    RestartPolicy {
        mode,
        max_attempts: non_zero(policy.max_attempts).unwrap_or(default.max_attempts),
        initial_backoff: wait("restart_policy.initial_backoff", policy.initial_backoff)
            .unwrap_or(default.initial_backoff),
        max_backoff: wait("restart_policy.max_backoff", policy.max_backoff)
            .unwrap_or(default.max_backoff),
        stable_period: wait("restart_policy.stable_period", policy.stable_period)
            .unwrap_or(default.stable_period),
    }
}

pub(super) fn message(policy: RestartPolicy) -> v1::RestartPolicy {
    let mode = match policy.mode {
        RestartMode::Never => v1::RestartMode::Never,
        RestartMode::OnFailure => v1::RestartMode::OnFailure,
        RestartMode::Always => v1::RestartMode::Always,
    };
    v1::RestartPolicy {
        mode: mode.into(),
        max_attempts: policy.max_attempts,
        initial_backoff: duration_message(policy.initial_backoff),
        max_backoff: duration_message(policy.max_backoff),
        stable_period: duration_message(policy.stable_period),
    }
}
