//! Reasons for errors that come without one: those that the libraries below the API answer by themselves.

use std::collections::HashMap;

use hangar_client::{ERROR_DOMAIN, v1::ErrorReason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, ErrorInfo, StatusExt};

use super::details::bare;

/// How tonic begins to refuse an encoding.
const ENCODING: &str = "Content is compressed with";

/// The error that a call to `path` ended with, with a reason if it has none. Its code and other details stay.
pub fn completed(path: &str, status: Status) -> Status {
    if status.get_details_error_info().is_some() {
        return status;
    }
    let reason = reason(&status);
    let mut message = status.message().to_owned();
    let mut metadata = HashMap::new();
    match reason {
        ErrorReason::UnknownMethod => {
            if message.is_empty() {
                message = format!(
                    "there is no method {path}; server reflection lists those that there are"
                );
            }
            metadata.insert("method".to_owned(), path.trim_start_matches('/').to_owned());
        }
        ErrorReason::Internal => {
            tracing::warn!(path, code = ?status.code(), message, "an error without a reason");
        }
        _ => {}
    }
    let info = ErrorInfo::new(bare(reason), ERROR_DOMAIN, metadata);
    let mut details = vec![ErrorDetail::ErrorInfo(info)];
    details.extend(status.get_error_details_vec());
    let metadata = status.metadata().clone();
    Status::with_error_details_vec_and_metadata(status.code(), message, details, metadata)
}

/// Why a library refused a call. Handlers of the API give their reasons themselves.
fn reason(status: &Status) -> ErrorReason {
    match status.code() {
        // Also for a message that is too large once it is unpacked.
        Code::OutOfRange | Code::ResourceExhausted => ErrorReason::MessageTooLarge,
        // Frames, compressed data or messages that cannot be read.
        Code::Internal => ErrorReason::MalformedMessage,
        Code::Unimplemented if status.message().starts_with(ENCODING) => {
            ErrorReason::UnsupportedEncoding
        }
        Code::Unimplemented => ErrorReason::UnknownMethod,
        // Of reflection and health.
        Code::NotFound => ErrorReason::NameNotFound,
        Code::InvalidArgument => ErrorReason::InvalidField,
        Code::DeadlineExceeded => ErrorReason::DeadlineExceeded,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => ErrorReason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[bounded::test]
    fn a_reason_is_added_where_there_is_none() {
        for (status, reason) in [
            (Status::out_of_range("too large"), "MESSAGE_TOO_LARGE"),
            (Status::internal("failed to decode"), "MALFORMED_MESSAGE"),
            (Status::unimplemented(""), "UNKNOWN_METHOD"),
            (
                Status::unimplemented("Content is compressed with `x`"),
                "UNSUPPORTED_ENCODING",
            ),
            (Status::not_found("symbol"), "NAME_NOT_FOUND"),
        ] {
            let completed = completed("/a.B/C", status.clone());
            let info = completed.get_details_error_info().expect("a reason");
            assert_eq!((&*info.reason, &*info.domain), (reason, ERROR_DOMAIN));
            assert_eq!(completed.code(), status.code());
            assert!(!completed.message().is_empty());
        }
    }

    #[bounded::test]
    fn details_that_are_there_stay() {
        let known = ErrorDetails::with_error_info("QUEUE_FULL", ERROR_DOMAIN, []);
        let known = Status::with_error_details(Code::ResourceExhausted, "full", known);
        let same = completed("/a.B/C", known.clone());
        assert_eq!(same.details(), known.details());
        let resource = ErrorDetails::with_resource_info("service", "x", "", "");
        let resource = Status::with_error_details(Code::NotFound, "none", resource);
        let completed = completed("/a.B/C", resource);
        assert!(completed.get_details_resource_info().is_some());
        assert!(completed.get_details_error_info().is_some());
    }
}
