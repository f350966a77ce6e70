//! Errors of the client, with what the server said about them.
//!
//! One type for all calls: callers act on [`Error::reason`], and on [`Error::code`] where a server or
//! a proxy gave no reason.

mod advice;
mod refusal;
mod switch_failure;

use std::{sync::Arc, time::Duration};

use tonic::{Code, Status};

pub use self::{
    refusal::{Details, ERROR_DOMAIN, Refusal, Violation, code_name},
    switch_failure::SwitchFailure,
};
use crate::v1::ErrorReason;

/// A cause, for [`std::error::Error::source`].
type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server answered with an error.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The server cannot be reached, or the connection broke.
    #[error(
        "cannot reach {server}: {cause}. Check that the server runs and that the address is right"
    )]
    Unreachable {
        /// Its address, as the client was given it.
        server: String,
        /// What the operating system or HTTP/2 said.
        #[source]
        cause: Cause,
    },
    /// There was no answer in time.
    #[error("no answer within {deadline:?}. The server may still be at work on it")]
    Deadline {
        /// Time that the call had, its repetitions included.
        deadline: Duration,
    },
    /// The address of the server cannot be used.
    #[error("`{server}` is no address of a server: {cause}")]
    Address {
        /// The address, as it was given.
        server: String,
        /// Why it is no URI, or none that can be connected to.
        #[source]
        cause: Cause,
    },
    /// A switch ended, and not well.
    #[error("{0}")]
    Switch(Box<SwitchFailure>),
    /// How something ended that the server had begun cannot be told any more.
    #[error("how {what} ended is not known: {why}. `info` tells what the alias points at")]
    OutcomeUnknown {
        /// What was begun, for example "the switch of writer to m2".
        what: String,
        /// Why nobody can tell.
        why: &'static str,
    },
    /// The server answered in a way that the protocol does not allow.
    #[error("the server broke the protocol: {0}. Check that its version fits this client's")]
    Protocol(&'static str),
}

impl Error {
    /// The gRPC code, also for errors that the client found itself.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Unreachable { .. } => Code::Unavailable,
            Self::Deadline { .. } => Code::DeadlineExceeded,
            Self::Address { .. } => Code::InvalidArgument,
            Self::Switch(_) => Code::Aborted,
            Self::OutcomeUnknown { .. } => Code::Unknown,
            Self::Protocol(_) => Code::Internal,
        }
    }

    /// The name of [`code`](Self::code) as gRPC spells it, for example "NOT_FOUND".
    pub fn code_name(&self) -> &'static str {
        code_name(self.code())
    }

    /// The server's reason, also for how a switch failed. `None`: it gave none, or one that this client does not know.
    pub fn reason(&self) -> Option<ErrorReason> {
        match self {
            Self::Switch(failure) => failure.reason(),
            _ => self.details().and_then(Details::reason),
        }
    }

    /// What the server said about the error beyond its message.
    pub fn details(&self) -> Option<&Details> {
        match self {
            Self::Refused(refusal) => Some(refusal.details()),
            _ => None,
        }
    }

    /// After which time the server wants the call to be tried again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.details().and_then(|details| details.retry_after)
    }

    /// Whether the server could not be reached, as opposed to having answered.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether the same call may succeed later without anybody doing something about it.
    ///
    /// That a worker died or a hub could not be reached is how a load ended, not transient: another
    /// call would be another load.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) if refusal.code() == Code::Unavailable => {
                let name = refusal.details().reason_name.as_deref();
                name.is_none() || self.reason() == Some(ErrorReason::ShuttingDown)
            }
            _ => false,
        }
    }

    /// The error that a call to `server` ended with.
    pub(crate) fn from_status(server: &str, status: Status) -> Self {
        if !is_local(&status) {
            return Self::Refused(Box::new(Refusal::from(status)));
        }
        if is_expired(&status) {
            return Self::Deadline {
                deadline: Duration::ZERO,
            };
        }
        Self::unreachable(server, status)
    }

    pub(crate) fn unreachable(
        server: &str,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unreachable {
            server: server.to_owned(),
            cause: Arc::new(Chain(root(&error))),
        }
    }

    pub(crate) fn address(
        server: &str,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let cause = Chain(error.into().to_string());
        Self::Address {
            server: server.to_owned(),
            cause: Arc::new(cause),
        }
    }

    /// Fills in the deadline that a call had, which the transport does not tell.
    pub(crate) fn with_deadline(self, deadline: Duration) -> Self {
        match self {
            Self::Deadline { .. } => Self::Deadline { deadline },
            other => other,
        }
    }
}

/// A cause in words: that at the root says what happened, those above it only where it was noticed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Chain(String);

fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    // An empty message at the root would say nothing.
    error.to_string()
}

/// Whether the status was made by this side's transport rather than sent by the server.
fn is_local(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn is_expired(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl From<tonic_types::Status> for Error {
    /// The error of one item of a call for all models.
    fn from(status: tonic_types::Status) -> Self {
        Self::Refused(Box::new(Refusal::from(status)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::StatusExt;

    use super::*;

    #[bounded::test]
    fn a_status_with_a_cause_means_the_connection() {
        let status = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        let error = Error::from_status("http://h:1", status);
        assert!(error.is_unreachable() && error.is_transient());
        assert!(
            error
                .to_string()
                .starts_with("cannot reach http://h:1: broken pipe.")
        );
    }

    #[bounded::test]
    fn an_expired_timer_means_the_deadline() {
        let status = Status::from_error(Box::new(tonic::TimeoutExpired(())));
        let error = Error::from_status("http://h:1", status).with_deadline(Duration::from_secs(2));
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert!(error.to_string().starts_with("no answer within 2s"));
    }

    #[bounded::test]
    fn a_shutdown_is_transient_and_a_dead_worker_is_not() {
        let refused = |reason: &str| {
            let details =
                tonic_types::ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
            let status = Status::with_error_details(Code::Unavailable, "m", details);
            Error::from_status("s", status)
        };
        assert!(refused("SHUTTING_DOWN").is_transient());
        assert!(!refused("WORKER_DIED").is_transient());
        assert!(!refused("A_REASON_OF_THE_FUTURE").is_transient());
        assert!(Error::from_status("s", Status::unavailable("a proxy")).is_transient());
    }
}
