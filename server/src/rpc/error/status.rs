//! The status of each error that is not made of another one.

use std::time::Duration;

use hangar_client::v1::ErrorReason;
use http::{HeaderMap, HeaderValue};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::details::{RESTART_RETRY, details, failed, internal};
use crate::{
    lifecycle::{Holder, UnknownModel, UnknownSession},
    model::{Failure, Reason},
};

/// Nobody is sent back sooner, which would be before anything has changed.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

/// The trailers that end a call with `status`, one of ours.
pub(in crate::rpc) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    if status.add_header(&mut trailers).is_err() {
        // Only a status with bytes that no header can carry fails, which ours do not have.
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from(status.code() as i32));
    }
    trailers
}

pub(super) fn invalid(violations: Vec<(String, String)>) -> Status {
    let summary: Vec<_> = violations
        .iter()
        .map(|(field, what)| format!("{field}: {what}"))
        .collect();
    let mut details = details(ErrorReason::InvalidField, []);
    for (field, description) in violations {
        details.add_bad_request_violation(field, description);
    }
    Status::with_error_details(Code::InvalidArgument, summary.join("; "), details)
}

pub(super) fn invalid_token() -> Status {
    Status::with_error_details(
        Code::InvalidArgument,
        "resume_token: was not given by this server; watch again without it",
        details(ErrorReason::TokenInvalid, []),
    )
}

pub(super) fn unknown_model(unknown: &UnknownModel) -> Status {
    let known: Vec<_> = unknown.known.iter().map(ToString::to_string).collect();
    let metadata = [
        ("model_id", unknown.id.to_string()),
        ("known_model_ids", known.join(",")),
    ];
    let mut details = details(ErrorReason::ModelNotFound, metadata);
    let what = "no such model is registered";
    details.set_resource_info("hangar.v1.Model", unknown.id.as_str(), "", what);
    Status::with_error_details(Code::NotFound, unknown.to_string(), details)
}

pub(super) fn unknown_version(model: String, version: u64) -> Status {
    let message = format!(
        "model {model} has version {version} only; give that, or none for whatever there is"
    );
    let metadata = [
        ("model_id", model.clone()),
        ("version", version.to_string()),
    ];
    let mut details = details(ErrorReason::ModelNotFound, metadata);
    let what = "no such version is registered";
    details.set_resource_info("hangar.v1.Model", model, "", what);
    Status::with_error_details(Code::NotFound, message, details)
}

pub(super) fn source_not_allowed(message: String) -> Status {
    let details = details(ErrorReason::SourceNotAllowed, []);
    Status::with_error_details(Code::PermissionDenied, message, details)
}

pub(super) fn spec_conflict(model: String, version: u64) -> Status {
    let message = format!(
        "model {model} is registered with another spec (version {version}); leave the spec out, or give \
         force_reload to replace it"
    );
    let metadata = [
        ("model_id", model.clone()),
        ("version", version.to_string()),
    ];
    let mut details = details(ErrorReason::SpecConflict, metadata);
    details.add_precondition_failure_violation("SPEC", model, "the registered spec differs");
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

pub(super) fn unknown_session(unknown: &UnknownSession) -> Status {
    let mut details = details(ErrorReason::SessionNotFound, []);
    // Nameless, as the id is a secret.
    let what = "no session of this id is open";
    details.set_resource_info("hangar.v1.Session", "", "", what);
    Status::with_error_details(Code::NotFound, unknown.to_string(), details)
}

pub(super) fn required(model: String) -> Status {
    let message = format!("model {model} is required; give force to unload it all the same");
    let mut details = details(ErrorReason::ModelRequired, [("model_id", model.clone())]);
    details.add_precondition_failure_violation("REQUIRED", model, message.clone());
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

pub(super) fn held(model: String, holders: &[Holder]) -> Status {
    let holders: Vec<_> = holders.iter().map(ToString::to_string).collect();
    let holders = holders.join(",");
    let message = format!(
        "model {model} is held by {holders}; wait until they let go, or give force to unload it all the \
         same"
    );
    let metadata = [("model_id", model.clone()), ("holders", holders)];
    let mut details = details(ErrorReason::ModelHeld, metadata);
    details.add_precondition_failure_violation("HELD", model, message.clone());
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

pub(super) fn switch_in_progress(alias: String) -> Status {
    Status::with_error_details(
        Code::Aborted,
        format!(
            "another switch of {alias} is under way; wait for its outcome, which WatchStatus tells, and try \
             again"
        ),
        details(ErrorReason::SwitchInProgress, [("alias", alias)]),
    )
}

pub(super) fn limit_reached(what: &str, limit: usize) -> Status {
    Status::with_error_details(
        Code::ResourceExhausted,
        format!("the server's limit of {limit} {what} is reached"),
        details(ErrorReason::LimitReached, [("limit", limit.to_string())]),
    )
}

pub(super) fn not_implemented(field: String) -> Status {
    Status::with_error_details(
        Code::Unimplemented,
        format!("{field} is known but not supported by this server; leave it out"),
        details(ErrorReason::NotImplemented, [("field", field)]),
    )
}

pub(super) fn not_loaded(model: String, why: Option<String>) -> Status {
    let why = why.map(|why| format!("; {why}")).unwrap_or_default();
    Status::with_error_details(
        Code::FailedPrecondition,
        format!("model {model} is not loaded; load it with LoadModel{why}"),
        details(ErrorReason::ModelNotLoaded, [("model_id", model)]),
    )
}

pub(super) fn loading(model: String, retry: Duration) -> Status {
    let retry = retry.max(SHORTEST_RETRY);
    let mut details = details(ErrorReason::ModelLoading, [("model_id", model.clone())]);
    details.set_retry_info(Some(retry));
    let message = format!(
        "model {model} is still loading; try again in {:.1} s",
        retry.as_secs_f64()
    );
    Status::with_error_details(Code::Unavailable, message, details)
}

/// A limit that has room again soon.
fn full_for_now(reason: ErrorReason, limit: impl ToString, message: impl Into<String>) -> Status {
    let mut details = details(reason, [("limit", limit.to_string())]);
    details.set_retry_info(Some(RESTART_RETRY));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

pub(super) fn queue_full(limit: u32) -> Status {
    let message = format!("{limit} requests wait for this model already; try again later");
    full_for_now(ErrorReason::QueueFull, limit, message)
}

pub(super) fn request_memory(limit: usize) -> Status {
    let message =
        "the requests that are under way take as much memory as they may; try again later";
    full_for_now(ErrorReason::LimitReached, limit, message)
}

pub(super) fn request_too_large(limit: usize) -> Status {
    let details = details(ErrorReason::MessageTooLarge, [("limit", limit.to_string())]);
    let message = format!(
        "the request takes more memory than all requests together may, which is {limit} bytes (max_request_memory)"
    );
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

pub(super) fn request_stuck() -> Status {
    Status::with_error_details(
        Code::DeadlineExceeded,
        "the request broke off: nothing more of it came for a minute, or too little",
        details(ErrorReason::DeadlineExceeded, []),
    )
}

pub(super) fn too_many_of_a_call(limit: usize) -> Status {
    let message = format!(
        "{limit} requests of this call wait already, or as many bytes of them as may; read their responses before you send more"
    );
    full_for_now(ErrorReason::QueueFull, limit, message)
}

pub(super) fn too_many_reloads(limit: usize) -> Status {
    let message = format!(
        "{limit} reloads wait for their files to be inspected already; nothing was changed; try again later"
    );
    full_for_now(ErrorReason::QueueFull, limit, message)
}

pub(super) fn call_broken() -> Status {
    let mut details = details(ErrorReason::CallBroken, []);
    details.set_retry_info(Some(RESTART_RETRY));
    let message = "the connection to the model's worker broke; try again";
    Status::with_error_details(Code::Unavailable, message, details)
}

pub(super) fn request_id_reused() -> Status {
    Status::with_error_details(
        Code::InvalidArgument,
        "request_id: was used before for another request; take a new one",
        details(ErrorReason::RequestIdReused, []),
    )
}

pub(super) fn deadline_exceeded() -> Status {
    Status::with_error_details(
        Code::DeadlineExceeded,
        "the deadline of the call has passed",
        details(ErrorReason::DeadlineExceeded, []),
    )
}

/// The status of a failed load, which says what it left behind and how to be rid of that.
pub(super) fn load_failed(
    model: String,
    desired: bool,
    declared: bool,
    failure: Failure,
) -> Status {
    let left = match (desired, declared) {
        (true, true) => {
            "model stays to be loaded, and is tried again when the server starts: UnloadModel ends that"
        }
        (true, false) => {
            "model stays registered and to be loaded, and is tried again when the server starts: UnloadModel ends \
             that, DeleteModel removes it"
        }
        (false, true) => "model is not to be loaded by itself",
        (false, false) => {
            "model stays registered, and is not to be loaded by itself: DeleteModel removes it"
        }
    };
    let desired = if desired { "LOADED" } else { "UNLOADED" };
    let metadata = [("model_id", model), ("desired_state", desired.to_owned())];
    let message = &failure.message;
    if failure.reason == Reason::Internal {
        return internal(message, metadata, Some(left));
    }
    let message = match message.ends_with('.') {
        true => format!("{message} The {left}"),
        false => format!("{message}; the {left}"),
    };
    failed(Failure { message, ..failure }, metadata)
}
