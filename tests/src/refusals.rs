//! Errors that a test expects of the server.

use std::fmt::Debug;

use hangar_client::{Error, Refusal, v1::ErrorReason};
use tonic::Code;

/// The server's refusal of a call: it has to have this code and this reason, and words for people.
///
/// # Panics
///
/// When the call succeeded, or failed in another way.
#[track_caller]
pub fn refusal<T: Debug>(result: Result<T, Error>, code: Code, reason: ErrorReason) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => {
            let reported = (refusal.code(), refusal.details().reason());
            assert_eq!(reported, (code, Some(reason)), "{refusal:?}");
            assert_is_for_people(refusal.message());
            *refusal
        }
        other => panic!("expected {code:?} with {reason:?}, got {other:?}"),
    }
}

/// The fields that an INVALID_ARGUMENT/INVALID_FIELD of the server names, in its order.
///
/// # Panics
///
/// As [`refusal`].
#[track_caller]
pub fn wrong_fields<T: Debug>(result: Result<T, Error>) -> Vec<String> {
    let refusal = refusal(result, Code::InvalidArgument, ErrorReason::InvalidField);
    let fields = &refusal.details().fields;
    assert!(
        fields.iter().all(|field| !field.description.is_empty()),
        "{refusal:?}"
    );
    fields.iter().map(|field| field.subject.clone()).collect()
}

/// Makes sure that the refusal of a load begins with `failure`, why it failed, and goes on with what it left behind.
///
/// # Panics
///
/// When it does not.
#[track_caller]
pub fn assert_left_behind(failure: &str, refusal: &str) {
    let rest = refusal.strip_prefix(failure);
    assert!(
        rest.is_some_and(|rest| rest.contains("stays registered")),
        "{failure:?}: {refusal:?}"
    );
}

/// Makes sure that a message says something, and nothing that only a developer understands.
///
/// # Panics
///
/// When it does not.
#[track_caller]
pub fn assert_is_for_people(message: &str) {
    assert!(message.len() > 10, "{message:?} says nothing");
    for word in ["panicked", "backtrace", "unwrap()", ".rs:", "\n", "::"] {
        assert!(!message.contains(word), "{word:?} in {message:?}");
    }
}
