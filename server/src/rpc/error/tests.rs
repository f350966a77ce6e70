//! The table of errors.

mod catalog;

use hangar_client::ERROR_DOMAIN;
use strum::VariantArray;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::{
    catalog::StorageError,
    lifecycle::{RoutingError, RoutingErrorKind},
    model::{ModelId, SwitchId},
};

fn check(error: ApiError, code: Code, reason: &str) -> ErrorDetails {
    let status = Status::from(error);
    let details = status.get_error_details();
    let info = details.error_info().expect("every error carries ErrorInfo");
    assert_eq!(
        (status.code(), info.reason.as_str(), info.domain.as_str()),
        (code, reason, ERROR_DOMAIN)
    );
    assert!(!status.message().is_empty());
    details
}

fn model() -> String {
    "m".to_owned()
}

fn id(id: &str) -> ModelId {
    ModelId::parse(id).expect("a well-formed id")
}

fn unknown_model(known: &[&str]) -> UnknownModel {
    UnknownModel {
        id: id("m"),
        known: known.iter().copied().map(id).collect(),
    }
}

fn load_failed() -> ApiError {
    ApiError::LoadFailed {
        model: model(),
        desired: true,
        declared: false,
        failure: Failure::new(Reason::ModelUnusable, "no"),
    }
}

/// An error of this kind.
fn error_of(kind: ApiErrorKind) -> ApiError {
    let (model, version) = (model(), 2);
    match kind {
        ApiErrorKind::Invalid => ApiError::invalid("a", "x"),
        ApiErrorKind::InvalidToken => ApiError::InvalidToken,
        ApiErrorKind::UnknownModel => ApiError::UnknownModel(unknown_model(&["a", "b"])),
        ApiErrorKind::UnknownVersion => ApiError::UnknownVersion { model, version },
        ApiErrorKind::SourceNotAllowed => ApiError::SourceNotAllowed("x".to_owned()),
        ApiErrorKind::SpecConflict => ApiError::SpecConflict { model, version },
        ApiErrorKind::Catalog => ApiError::Catalog(CatalogRefusal::PageToken),
        ApiErrorKind::UnknownSession => ApiError::UnknownSession(UnknownSession),
        ApiErrorKind::Required => ApiError::Required(model),
        ApiErrorKind::Held => {
            let holders = vec![Holder::Switch(SwitchId::random())];
            ApiError::Held { model, holders }
        }
        ApiErrorKind::SwitchInProgress => ApiError::SwitchInProgress("chat".to_owned()),
        ApiErrorKind::Limit => {
            let (what, limit) = ("things", 3);
            ApiError::Limit { what, limit }
        }
        ApiErrorKind::NotImplemented => ApiError::NotImplemented("spec.device".to_owned()),
        ApiErrorKind::NotLoaded => ApiError::NotLoaded { model, why: None },
        ApiErrorKind::Loading => {
            let retry = Duration::from_secs(2);
            ApiError::Loading { model, retry }
        }
        ApiErrorKind::QueueFull => ApiError::QueueFull { limit: 3 },
        ApiErrorKind::TooManyReloads => ApiError::TooManyReloads { limit: 3 },
        ApiErrorKind::TooManyOfACall => ApiError::TooManyOfACall { limit: 3 },
        ApiErrorKind::RequestMemory => ApiError::RequestMemory { limit: 3 },
        ApiErrorKind::RequestTooLarge => ApiError::RequestTooLarge { limit: 3 },
        ApiErrorKind::RequestStuck => ApiError::RequestStuck,
        ApiErrorKind::Failed => ApiError::Failed(Failure::new(Reason::HubDenied, "no")),
        ApiErrorKind::LoadFailed => load_failed(),
        ApiErrorKind::CallBroken => ApiError::CallBroken,
        ApiErrorKind::ShuttingDown => ApiError::ShuttingDown,
        ApiErrorKind::RequestIdReused => ApiError::RequestIdReused,
        ApiErrorKind::DeadlineExceeded => ApiError::DeadlineExceeded,
        ApiErrorKind::Internal => ApiError::Internal("a cause".to_owned()),
    }
}

#[bounded::test]
fn every_error_has_its_code_and_reason() {
    for &kind in ApiErrorKind::VARIANTS {
        let (code, reason) = match kind {
            ApiErrorKind::Invalid => (Code::InvalidArgument, "INVALID_FIELD"),
            ApiErrorKind::InvalidToken => (Code::InvalidArgument, "TOKEN_INVALID"),
            ApiErrorKind::UnknownModel => (Code::NotFound, "MODEL_NOT_FOUND"),
            ApiErrorKind::UnknownVersion => (Code::NotFound, "MODEL_NOT_FOUND"),
            ApiErrorKind::SourceNotAllowed => (Code::PermissionDenied, "SOURCE_NOT_ALLOWED"),
            ApiErrorKind::SpecConflict => (Code::FailedPrecondition, "SPEC_CONFLICT"),
            ApiErrorKind::Catalog => (Code::InvalidArgument, "TOKEN_INVALID"),
            ApiErrorKind::UnknownSession => (Code::NotFound, "SESSION_NOT_FOUND"),
            ApiErrorKind::Required => (Code::FailedPrecondition, "MODEL_REQUIRED"),
            ApiErrorKind::Held => (Code::FailedPrecondition, "MODEL_HELD"),
            ApiErrorKind::SwitchInProgress => (Code::Aborted, "SWITCH_IN_PROGRESS"),
            ApiErrorKind::Limit => (Code::ResourceExhausted, "LIMIT_REACHED"),
            ApiErrorKind::NotImplemented => (Code::Unimplemented, "NOT_IMPLEMENTED"),
            ApiErrorKind::NotLoaded => (Code::FailedPrecondition, "MODEL_NOT_LOADED"),
            ApiErrorKind::Loading => (Code::Unavailable, "MODEL_LOADING"),
            ApiErrorKind::QueueFull => (Code::ResourceExhausted, "QUEUE_FULL"),
            ApiErrorKind::TooManyReloads => (Code::ResourceExhausted, "QUEUE_FULL"),
            ApiErrorKind::TooManyOfACall => (Code::ResourceExhausted, "QUEUE_FULL"),
            ApiErrorKind::RequestMemory => (Code::ResourceExhausted, "LIMIT_REACHED"),
            ApiErrorKind::RequestTooLarge => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            ApiErrorKind::RequestStuck => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            ApiErrorKind::Failed => (Code::PermissionDenied, "HUB_DENIED"),
            ApiErrorKind::LoadFailed => (Code::FailedPrecondition, "MODEL_UNUSABLE"),
            ApiErrorKind::CallBroken => (Code::Unavailable, "CALL_BROKEN"),
            ApiErrorKind::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
            ApiErrorKind::RequestIdReused => (Code::InvalidArgument, "REQUEST_ID_REUSED"),
            ApiErrorKind::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            ApiErrorKind::Internal => (Code::Internal, "INTERNAL"),
        };
        check(error_of(kind), code, reason);
    }
}

#[bounded::test]
fn every_wrong_field_is_a_violation() {
    let bad = ApiError::Invalid(vec![
        ("a".to_owned(), "x".to_owned()),
        ("b".to_owned(), "y".to_owned()),
    ]);
    let details = check(bad, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(
        details.bad_request().map(|b| b.field_violations.len()),
        Some(2)
    );
}

#[bounded::test]
fn an_unknown_model_comes_with_those_that_are_known() {
    let unknown = unknown_model(&["a", "b"]);
    let details = check(unknown.into(), Code::NotFound, "MODEL_NOT_FOUND");
    assert_eq!(
        details.resource_info().map(|r| r.resource_name.as_str()),
        Some("m")
    );
    assert_eq!(
        details
            .error_info()
            .map(|i| i.metadata["known_model_ids"].as_str()),
        Some("a,b")
    );
}

#[bounded::test]
fn another_spec_than_the_registered_one_is_a_failed_precondition() {
    let conflict = ApiError::SpecConflict {
        model: model(),
        version: 1,
    };
    let details = check(conflict, Code::FailedPrecondition, "SPEC_CONFLICT");
    assert!(details.precondition_failure().is_some());
}

#[bounded::test]
fn what_passes_by_itself_says_when_to_try_again() {
    let loading = |retry| {
        let error = ApiError::Loading {
            model: model(),
            retry,
        };
        let details = check(error, Code::Unavailable, "MODEL_LOADING");
        details.retry_info().and_then(|r| r.retry_delay)
    };
    let retry = Duration::from_secs(2);
    assert_eq!(loading(retry), Some(retry));
    assert_eq!(loading(Duration::ZERO), Some(Duration::from_millis(100)));
    let broken = check(ApiError::CallBroken, Code::Unavailable, "CALL_BROKEN");
    assert!(broken.retry_info().is_some());
    let full = ApiError::QueueFull { limit: 3 };
    let full = check(full, Code::ResourceExhausted, "QUEUE_FULL");
    assert!(full.retry_info().is_some());
    let memory = ApiError::RequestMemory { limit: 3 };
    let memory = check(memory, Code::ResourceExhausted, "LIMIT_REACHED");
    assert!(memory.retry_info().is_some());
    let of_a_call = ApiError::TooManyOfACall { limit: 3 };
    let of_a_call = check(of_a_call, Code::ResourceExhausted, "QUEUE_FULL");
    assert!(of_a_call.retry_info().is_some());
    let reloads = ApiError::TooManyReloads { limit: 3 };
    let reloads = check(reloads, Code::ResourceExhausted, "QUEUE_FULL");
    assert!(reloads.retry_info().is_some());
}

#[bounded::test]
fn a_load_that_failed_says_what_is_desired() {
    let details = check(load_failed(), Code::FailedPrecondition, "MODEL_UNUSABLE");
    assert_eq!(
        details
            .error_info()
            .map(|i| i.metadata["desired_state"].as_str()),
        Some("LOADED")
    );
}

#[bounded::test]
fn every_failure_of_a_model_has_its_code_and_reason() {
    for &reason in Reason::VARIANTS {
        let (code, name) = match reason {
            Reason::ModelUnusable => (Code::FailedPrecondition, "MODEL_UNUSABLE"),
            Reason::SourceNotAllowed => (Code::PermissionDenied, "SOURCE_NOT_ALLOWED"),
            Reason::DeviceUnavailable => (Code::FailedPrecondition, "DEVICE_UNAVAILABLE"),
            Reason::InsufficientMemory => (Code::ResourceExhausted, "INSUFFICIENT_MEMORY"),
            Reason::StorageFull => (Code::ResourceExhausted, "STORAGE_FULL"),
            Reason::WorkerDied => (Code::Unavailable, "WORKER_DIED"),
            Reason::WorkerHung | Reason::Unreaped | Reason::DeviceMemoryHeld => {
                (Code::Unavailable, "WORKER_HUNG")
            }
            Reason::LoadTimeout => (Code::DeadlineExceeded, "LOAD_TIMEOUT"),
            Reason::LoadStalled => (Code::DeadlineExceeded, "LOAD_STALLED"),
            Reason::LoadCancelled => (Code::Aborted, "LOAD_CANCELLED"),
            Reason::ModelUnloaded => (Code::Unavailable, "MODEL_UNLOADED"),
            Reason::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
            Reason::HubUnavailable => (Code::Unavailable, "HUB_UNAVAILABLE"),
            Reason::FilesUnavailable => (Code::Unavailable, "FILES_UNAVAILABLE"),
            Reason::HubDenied => (Code::PermissionDenied, "HUB_DENIED"),
            Reason::UnsupportedByModel => (Code::FailedPrecondition, "UNSUPPORTED_BY_MODEL"),
            Reason::Internal => (Code::Internal, "INTERNAL"),
        };
        let details = check(ApiError::Failed(Failure::new(reason, "words")), code, name);
        let passing = matches!(
            reason,
            Reason::WorkerDied
                | Reason::WorkerHung
                | Reason::Unreaped
                | Reason::DeviceMemoryHeld
                | Reason::ShuttingDown
                | Reason::HubUnavailable
                | Reason::FilesUnavailable
        );
        assert_eq!(details.retry_info().is_some(), passing);
    }
}

#[bounded::test]
fn the_subject_of_a_failure_is_in_the_error() {
    let short = Failure::new(Reason::InsufficientMemory, "too big").about("memory of cuda:GPU-1");
    let details = check(
        ApiError::Failed(short),
        Code::ResourceExhausted,
        "INSUFFICIENT_MEMORY",
    );
    let quota = details.quota_failure().expect("a QuotaFailure");
    assert_eq!(quota.violations[0].subject, "memory of cuda:GPU-1");
    let missing = Failure::new(Reason::DeviceUnavailable, "no library").about("libcudart.so.13");
    let details = check(
        ApiError::Failed(missing),
        Code::FailedPrecondition,
        "DEVICE_UNAVAILABLE",
    );
    let failure = details.precondition_failure();
    let failure = failure.expect("a PreconditionFailure");
    assert_eq!(failure.violations[0].subject, "libcudart.so.13");
}

#[bounded::test]
fn internal_causes_are_logged_and_not_sent() {
    let status = Status::from(ApiError::Internal("the secret cause".to_owned()));
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("secret"));
    let id = status
        .get_error_details()
        .error_info()
        .map(|info| info.metadata["error_id"].clone());
    assert!(id.is_some_and(|id| status.message().contains(&id)));
}

fn routing_error(kind: RoutingErrorKind) -> RoutingError {
    let (model, retry) = (id("m"), Duration::ZERO);
    match kind {
        RoutingErrorKind::Find => RoutingError::Find(unknown_model(&[]).into()),
        RoutingErrorKind::NotLoaded => RoutingError::NotLoaded { model, why: None },
        RoutingErrorKind::Loading => RoutingError::Loading { model, retry },
        RoutingErrorKind::QueueFull => RoutingError::QueueFull { limit: 1 },
        RoutingErrorKind::Failed => RoutingError::Failed(Failure::new(Reason::Internal, "words")),
        RoutingErrorKind::DeadlineExceeded => RoutingError::DeadlineExceeded,
        RoutingErrorKind::ShuttingDown => RoutingError::ShuttingDown,
    }
}

#[bounded::test]
fn a_routing_error_has_the_reason_of_its_status_in_metrics() {
    let failures = Reason::VARIANTS.iter();
    let failures = failures.map(|reason| RoutingError::Failed(Failure::new(*reason, "words")));
    let found = RoutingError::Find(StorageError::Full.into());
    let kinds = RoutingErrorKind::VARIANTS.iter().copied();
    for error in kinds.map(routing_error).chain([found]).chain(failures) {
        let reason = error.reason();
        let status = Status::from(ApiError::from(error));
        assert_eq!(reason_of(&status), reason);
    }
}
