//! How a switch ended.

use crate::{
    error::{Error, SwitchFailure},
    v1::{SwitchInfo, SwitchOutcome},
};

/// How a switch ended. `None`: it has not.
pub(super) fn outcome(switch: SwitchInfo) -> Option<Result<SwitchInfo, Error>> {
    match switch.outcome() {
        // An outcome that is newer than this client is no success that it could vouch for.
        SwitchOutcome::Unspecified if switch.outcome == 0 => None,
        SwitchOutcome::Succeeded => Some(Ok(switch)),
        _ => Some(Err(Error::Switch(Box::new(SwitchFailure::new(switch))))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::v1::ErrorReason;

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

    #[bounded::test]
    fn what_is_under_way_has_no_outcome() {
        assert!(outcome(switch(SwitchOutcome::Unspecified)).is_none());
    }

    #[bounded::test]
    fn an_outcome_of_the_future_is_no_success() {
        let mut switch = switch(SwitchOutcome::Unspecified);
        switch.outcome = 77;
        assert!(matches!(outcome(switch), Some(Err(Error::Switch(_)))));
    }

    #[bounded::test]
    fn a_rollback_says_why_and_what_serves() {
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

    #[bounded::test]
    fn a_failed_roll_back_says_that_nothing_serves() {
        let error = outcome(switch(SwitchOutcome::RollbackFailed))
            .unwrap()
            .unwrap_err();
        assert!(error.to_string().contains("could not be brought back"));
        assert!(matches!(error, Error::Switch(failure) if !failure.old_serves()));
    }
}
