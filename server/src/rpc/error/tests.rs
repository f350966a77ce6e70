//! The table of errors.

mod catalog;

use strum::VariantArray;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::{catalog::StorageError, lifecycle::AdmissionError, model::ModelId};

fn check(error: ApiError, code: Code, reason: &str) -> ErrorDetails {
    let status = Status::from(error);
    let details = status.get_error_details();
    let info = details.error_info().expect("every error carries ErrorInfo");
    assert_eq!(
        (status.code(), info.reason.as_str(), info.domain.as_str()),
        (code, reason, DOMAIN)
    );
    assert!(!status.message().is_empty());
    details
}

fn model() -> String {
    "m".to_owned()
}

#[test]
fn every_wrong_request_has_its_code_and_reason() {
    let invalid = Code::InvalidArgument;
    check(ApiError::InvalidToken, invalid, "TOKEN_INVALID");
    check(ApiError::RequestIdReused, invalid, "REQUEST_ID_REUSED");
    let source = ApiError::SourceNotAllowed("x".to_owned());
    check(source, Code::PermissionDenied, "SOURCE_NOT_ALLOWED");
    let field = ApiError::NotImplemented("spec.device".to_owned());
    check(field, Code::Unimplemented, "NOT_IMPLEMENTED");
    let version = ApiError::UnknownVersion {
        model: model(),
        version: 2,
    };
    check(version, Code::NotFound, "MODEL_NOT_FOUND");
}

#[test]
fn what_cannot_be_done_now_has_its_code_and_reason() {
    let not_loaded = ApiError::NotLoaded {
        model: model(),
        why: None,
    };
    check(not_loaded, Code::FailedPrecondition, "MODEL_NOT_LOADED");
    let limit = ApiError::Limit {
        what: "things",
        limit: 3,
    };
    check(limit, Code::ResourceExhausted, "LIMIT_REACHED");
    check(ApiError::ShuttingDown, Code::Unavailable, "SHUTTING_DOWN");
    let late = ApiError::DeadlineExceeded;
    check(late, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[test]
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

#[test]
fn an_unknown_model_comes_with_those_that_are_known() {
    let id = |id| ModelId::parse(id).expect("a well-formed id");
    let unknown = UnknownModel {
        id: id("m"),
        known: vec![id("a"), id("b")],
    };
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

#[test]
fn another_spec_than_the_registered_one_is_a_failed_precondition() {
    let conflict = ApiError::SpecConflict {
        model: model(),
        version: 1,
    };
    let details = check(conflict, Code::FailedPrecondition, "SPEC_CONFLICT");
    assert!(details.precondition_failure().is_some());
}

#[test]
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
    let reloads = ApiError::TooManyReloads { limit: 3 };
    let reloads = check(reloads, Code::ResourceExhausted, "QUEUE_FULL");
    assert!(reloads.retry_info().is_some());
}

#[test]
fn a_load_that_failed_says_what_is_desired() {
    let error = ApiError::LoadFailed {
        model: model(),
        desired: true,
        declared: false,
        failure: Failure::new(Reason::ModelUnusable, "no"),
    };
    let details = check(error, Code::FailedPrecondition, "MODEL_UNUSABLE");
    assert_eq!(
        details
            .error_info()
            .map(|i| i.metadata["desired_state"].as_str()),
        Some("LOADED")
    );
}

#[test]
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

#[test]
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

#[test]
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

#[test]
fn an_admission_error_has_the_reason_of_its_status_in_metrics() {
    let model = || ModelId::parse("m").expect("a well-formed id");
    let unknown = UnknownModel {
        id: model(),
        known: Vec::new(),
    };
    let mut errors = vec![
        AdmissionError::Find(unknown.into()),
        AdmissionError::Find(StorageError::Full.into()),
        AdmissionError::NotLoaded {
            model: model(),
            why: None,
        },
        AdmissionError::Loading {
            model: model(),
            retry: Duration::ZERO,
        },
        AdmissionError::QueueFull { limit: 1 },
        AdmissionError::DeadlineExceeded,
        AdmissionError::ShuttingDown,
    ];
    let failures = Reason::VARIANTS.iter();
    errors.extend(failures.map(|reason| AdmissionError::Failed(Failure::new(*reason, "words"))));
    for error in errors {
        let reason = error.reason();
        let status = Status::from(ApiError::from(error));
        assert_eq!(reason_of(&status), reason);
    }
}
