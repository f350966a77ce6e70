//! A switch that did not succeed.

use std::fmt;

use crate::v1::{ErrorReason, SwitchInfo, SwitchOutcome};

/// A switch that did not succeed: the alias points where it did before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchFailure {
    switch: SwitchInfo,
}

impl SwitchFailure {
    /// The failure of a switch that has ended.
    pub(crate) fn new(switch: SwitchInfo) -> Self {
        Self { switch }
    }

    /// The switch, with its outcome and why.
    pub fn switch(&self) -> &SwitchInfo {
        &self.switch
    }

    /// Whether the old model serves as before. Otherwise it could not be brought back.
    pub fn old_serves(&self) -> bool {
        self.switch.outcome() == SwitchOutcome::RolledBack
    }

    /// Why. `None`: the server gave no reason, or one that this client does not know.
    pub fn reason(&self) -> Option<ErrorReason> {
        ErrorReason::from_str_name(&format!("ERROR_REASON_{}", self.switch.reason))
    }
}

impl fmt::Display for SwitchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SwitchInfo {
            alias,
            from_model_id,
            to_model_id,
            reason,
            message,
            ..
        } = &self.switch;
        write!(f, "the switch of {alias} to {to_model_id} failed")?;
        if !reason.is_empty() {
            write!(f, " ({reason})")?;
        }
        if !message.is_empty() {
            write!(f, ": {}", message.trim_end_matches('.'))?;
        }
        match (from_model_id.as_str(), self.old_serves()) {
            ("", _) => write!(f, ". {alias} still points at no model"),
            (old, true) => write!(f, ". {alias} still points at {old}, which serves as before"),
            (old, false) => write!(
                f,
                ". {alias} still points at {old}, but that could not be brought back. Load it when its \
                 cause is cured"
            ),
        }
    }
}
