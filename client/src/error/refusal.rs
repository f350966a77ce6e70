//! An error that the server answered with, and the details that it gave.

use std::{collections::BTreeMap, fmt, time::Duration};

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::advice::advice;
use crate::v1::ErrorReason;

/// Domain of the reasons in `google.rpc.ErrorInfo` that are values of [`ErrorReason`].
pub const ERROR_DOMAIN: &str = "hangar.v1";

/// The shortest wait that people are told of.
const SHORTEST_DELAY: Duration = Duration::from_millis(100);

/// An error that the server answered with.
#[derive(Clone, Debug)]
pub struct Refusal {
    status: Status,
    details: Details,
}

/// What the server said about an error beyond its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Details {
    /// Name of the reason, without the prefix of [`ErrorReason`]. Also there when this client does not
    /// know the reason.
    pub reason_name: Option<String>,
    /// More about the reason; `error_reason.proto` says which keys a reason has.
    pub metadata: BTreeMap<String, String>,
    /// After which time to try again (`google.rpc.RetryInfo`). `None`: the server does not say, which is no promise
    /// that trying again is of no use.
    pub retry_after: Option<Duration>,
    /// Fields of the request that are wrong (`google.rpc.BadRequest`), by their paths such as "spec.dtype".
    pub fields: Vec<Violation>,
    /// What has to be so before the call can succeed (`google.rpc.PreconditionFailure`), by model or file.
    pub preconditions: Vec<Violation>,
    /// What is exhausted (`google.rpc.QuotaFailure`), such as the memory of a device.
    pub quotas: Vec<Violation>,
}

/// One thing that stands against a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it is about: the path of a field, or the name of a resource.
    pub subject: String,
    /// What is wrong with it, in a sentence for people.
    pub description: String,
}

impl Refusal {
    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// The server's message: what is wrong and what to do about it, for people. It may change between versions.
    pub fn message(&self) -> &str {
        self.status.message()
    }

    /// What the server said beyond that, for programs.
    pub fn details(&self) -> &Details {
        &self.details
    }

    /// The status as it came, with details that this client does not know.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

impl Details {
    /// The reason. `None`: the server gave none, or one that this client does not know.
    pub fn reason(&self) -> Option<ErrorReason> {
        ErrorReason::from_str_name(&format!("ERROR_REASON_{}", self.reason_name.as_deref()?))
    }

    /// Everything that stands against the call.
    fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.fields
            .iter()
            .chain(&self.preconditions)
            .chain(&self.quotas)
    }
}

/// The name of a code as gRPC spells it, for example "NOT_FOUND".
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = Details::from(status.get_error_details());
        Self { status, details }
    }
}

impl From<tonic_types::Status> for Refusal {
    fn from(status: tonic_types::Status) -> Self {
        let bytes = status.encode_to_vec().into();
        Self::from(Status::with_details(
            Code::from(status.code),
            status.message,
            bytes,
        ))
    }
}

impl From<ErrorDetails> for Details {
    fn from(details: ErrorDetails) -> Self {
        let info = details
            .error_info()
            .filter(|info| info.domain == ERROR_DOMAIN);
        let fields = details
            .bad_request()
            .map_or(&[][..], |detail| &detail.field_violations);
        let preconditions = details
            .precondition_failure()
            .map_or(&[][..], |detail| &detail.violations);
        let quotas = details
            .quota_failure()
            .map_or(&[][..], |detail| &detail.violations);
        Self {
            reason_name: info.map(|info| info.reason.clone()),
            metadata: info
                .map(|info| info.metadata.clone().into_iter().collect())
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            fields: fields
                .iter()
                .map(|v| violation(&v.field, &v.description))
                .collect(),
            preconditions: preconditions
                .iter()
                .map(|v| violation(&v.subject, &v.description))
                .collect(),
            quotas: quotas
                .iter()
                .map(|v| violation(&v.subject, &v.description))
                .collect(),
        }
    }
}

fn violation(subject: &str, description: &str) -> Violation {
    Violation {
        subject: subject.to_owned(),
        description: description.to_owned(),
    }
}

impl fmt::Display for Refusal {
    /// `message (CODE/REASON); subject: what is wrong with it; try again in 2s. What to do`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match self.message() {
            "" if self.code() == Code::Unimplemented => {
                "the server does not know this call; it may be older than this client"
            }
            "" => "the server gave no message",
            message => message.trim_end_matches('.'),
        };
        write!(f, "{message} ({}", code_name(self.code()))?;
        if let Some(reason) = &self.details.reason_name {
            write!(f, "/{reason}")?;
        }
        f.write_str(")")?;
        // A message that was made from its violations says it all already.
        for violation in self
            .details
            .violations()
            .filter(|v| !message.contains(&v.description))
        {
            write!(
                f,
                "; {}: {}",
                violation.subject,
                violation.description.trim_end_matches('.')
            )?;
        }
        if let Some(known) = self
            .details
            .metadata
            .get("known_model_ids")
            .filter(|known| !known.is_empty())
        {
            write!(f, "; known models: {}", known.replace(',', ", "))?;
        }
        if let Some(delay) = self
            .details
            .retry_after
            .filter(|_| !message.contains("try again in"))
        {
            write!(f, "; try again in {:.1?}", delay.max(SHORTEST_DELAY))?;
        }
        let reason = self.details.reason();
        match reason.and_then(|reason| advice(reason, message)) {
            Some(advice) => write!(f, ". {advice}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn refusal(code: Code, message: &str, details: ErrorDetails) -> Refusal {
        Refusal::from(Status::with_error_details(code, message, details))
    }

    #[bounded::test]
    fn details_are_parsed() {
        let metadata = HashMap::from([("model_id".to_owned(), "m".to_owned())]);
        let mut details = ErrorDetails::with_error_info("QUEUE_FULL", ERROR_DOMAIN, metadata);
        details.set_retry_info(Some(Duration::from_secs(2)));
        details.add_bad_request_violation("spec.device", "must be cpu");
        details.add_precondition_failure_violation("HELD", "s1", "holds the model");
        details.add_quota_failure_violation("host memory", "2 GB needed, 1 GB free");
        let refusal = refusal(Code::ResourceExhausted, "The queue is full.", details);
        let details = refusal.details();
        assert_eq!(details.reason(), Some(ErrorReason::QueueFull));
        assert_eq!(
            details.metadata.get("model_id").map(String::as_str),
            Some("m")
        );
        assert_eq!(details.retry_after, Some(Duration::from_secs(2)));
        assert_eq!(details.fields, [violation("spec.device", "must be cpu")]);
        assert_eq!(details.preconditions, [violation("s1", "holds the model")]);
        assert_eq!(
            details.quotas,
            [violation("host memory", "2 GB needed, 1 GB free")]
        );
        assert_eq!(
            refusal.to_string(),
            "The queue is full (RESOURCE_EXHAUSTED/QUEUE_FULL); spec.device: must be cpu; s1: holds the model; \
             host memory: 2 GB needed, 1 GB free; try again in 2.0s"
        );
    }

    #[bounded::test]
    fn a_status_without_details_is_printed_as_it_is() {
        let refusal = Refusal::from(Status::internal(""));
        assert_eq!(refusal.details(), &Details::default());
        assert_eq!(refusal.to_string(), "the server gave no message (INTERNAL)");
        let unknown = Refusal::from(Status::unimplemented("")).to_string();
        assert!(unknown.starts_with("the server does not know this call"));
    }

    #[bounded::test]
    fn reasons_of_other_domains_and_of_the_future_are_no_reasons() {
        let other = ErrorDetails::with_error_info("QUEUE_FULL", "example.com", HashMap::new());
        assert_eq!(
            refusal(Code::Internal, "m", other).details().reason_name,
            None
        );
        let newer = ErrorDetails::with_error_info("TOO_LATE", ERROR_DOMAIN, HashMap::new());
        let newer = refusal(Code::Internal, "m", newer);
        assert_eq!(newer.details().reason(), None);
        assert_eq!(newer.to_string(), "m (INTERNAL/TOO_LATE)");
    }

    #[bounded::test]
    fn a_refusal_lists_the_known_models_and_what_to_do() {
        let metadata = HashMap::from([("known_model_ids".to_owned(), "a,b".to_owned())]);
        let details = ErrorDetails::with_error_info("MODEL_NOT_FOUND", ERROR_DOMAIN, metadata);
        let unknown = refusal(Code::NotFound, "no model c is registered", details);
        let expected = "no model c is registered (NOT_FOUND/MODEL_NOT_FOUND); known models: a, b";
        assert_eq!(unknown.to_string(), expected);
        let details = ErrorDetails::with_error_info("MODEL_HELD", ERROR_DOMAIN, HashMap::new());
        let held = refusal(Code::FailedPrecondition, "s1 holds it.", details).to_string();
        assert_eq!(
            held,
            "s1 holds it (FAILED_PRECONDITION/MODEL_HELD). Unload it with force if that is meant, or with the \
             session that holds it alone"
        );
    }

    #[bounded::test]
    fn garbage_in_the_details_is_ignored() {
        let status = Status::with_details(Code::Aborted, "m", vec![0xff; 64].into());
        assert_eq!(Refusal::from(status).details(), &Details::default());
    }

    #[bounded::test]
    fn an_item_of_all_keeps_its_details() {
        let details = ErrorDetails::with_error_info("MODEL_HELD", ERROR_DOMAIN, HashMap::new());
        let status = Status::with_error_details(Code::FailedPrecondition, "held", details);
        let item = tonic_types::Status::decode(status.details()).unwrap();
        let refusal = Refusal::from(item);
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert_eq!(refusal.details().reason(), Some(ErrorReason::ModelHeld));
    }
}
