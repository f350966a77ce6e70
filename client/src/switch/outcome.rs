//! How a switch ended.

use std::fmt;

use crate::{
    error::Error,
    v1::{ErrorReason, SwitchInfo, SwitchOutcome},
};

/// A switch that did not succeed: the alias points where it did before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchFailure {
    switch: SwitchInfo,
}

impl SwitchFailure {
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

/// How a switch ended. `None`: it has not.
pub(super) fn outcome(switch: SwitchInfo) -> Option<Result<SwitchInfo, Error>> {
    match switch.outcome() {
        // An outcome that is newer than this client is no success that it could vouch for.
        SwitchOutcome::Unspecified if switch.outcome == 0 => None,
        SwitchOutcome::Succeeded => Some(Ok(switch)),
        _ => Some(Err(Error::Switch(Box::new(SwitchFailure { switch })))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn switch(outcome: SwitchOutcome) -> SwitchInfo {
        SwitchInfo {
            alias: "chat".to_owned(),
            from_model_id: "old".to_owned(),
            to_model_id: "new".to_owned(),
            outcome: outcome.into(),
            reason: "WORKER_DIED".to_owned(),
            message: "it died.".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_under_way_has_no_outcome() {
        assert!(outcome(switch(SwitchOutcome::Unspecified)).is_none());
    }

    #[test]
    fn an_outcome_of_the_future_is_no_success() {
        let mut switch = switch(SwitchOutcome::Unspecified);
        switch.outcome = 77;
        assert!(matches!(outcome(switch), Some(Err(Error::Switch(_)))));
    }

    #[test]
    fn a_roll_back_tells_why_and_what_serves() {
        let error = outcome(switch(SwitchOutcome::RolledBack))
            .unwrap()
            .unwrap_err();
        let expected = "the switch of chat to new failed (WORKER_DIED): it died. chat still points at \
                        old, which serves as before";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.reason(), Some(ErrorReason::WorkerDied));
        assert_eq!(error.code(), Code::Aborted);
        assert!(!error.is_transient());
    }

    #[test]
    fn a_failed_roll_back_says_that_nothing_serves() {
        let error = outcome(switch(SwitchOutcome::RollbackFailed))
            .unwrap()
            .unwrap_err();
        assert!(error.to_string().contains("could not be brought back"));
        assert!(matches!(error, Error::Switch(failure) if !failure.old_serves()));
    }
}
