//! What a caller can do about an error, in words.

use crate::v1::ErrorReason;

/// What to do about `reason`, where the server's `message` does not say it.
pub(super) fn advice(reason: ErrorReason, message: &str) -> Option<&'static str> {
    let (mentioned, text) = advice_for(reason)?;
    (mentioned.is_empty() || !message.contains(mentioned)).then_some(text)
}

/// Words by which a message says what to do, and what to do. Empty: no message does.
type Advice = (&'static str, &'static str);

fn advice_for(reason: ErrorReason) -> Option<Advice> {
    of_models(reason).or_else(|| of_servers(reason))
}

/// What a caller can do about models and what is registered.
fn of_models(reason: ErrorReason) -> Option<Advice> {
    Some(match reason {
        ErrorReason::ModelRequired => (
            "force",
            "Unload it with force if that is meant, or make it not required first",
        ),
        ErrorReason::ModelHeld => (
            "force",
            "Unload it with force if that is meant, or with the session that holds it alone",
        ),
        ErrorReason::ModelLoaded => ("force", "Unload it first, or delete it with force"),
        ErrorReason::ModelAliased => (
            "force",
            "Switch its aliases to another model or remove them first, or delete it with force",
        ),
        ErrorReason::SpecConflict => (
            "force",
            "Leave the spec out, update the registered one, or replace it with a forced reload",
        ),
        ErrorReason::ModelExists => (
            "",
            "Take another name, or update, delete or switch the one that has it",
        ),
        ErrorReason::ModelDeclared => (
            "change it there",
            "Change it in the server's configuration file and restart the server",
        ),
        ErrorReason::EtagRequired => ("", "Get the model and give the etag that it has"),
        ErrorReason::EtagMismatch => (
            "read it again",
            "Somebody else changed it: get the model anew and make the change on that",
        ),
        _ => return None,
    })
}

/// What somebody can do about switches, sessions, the server and its machine.
fn of_servers(reason: ErrorReason) -> Option<Advice> {
    Some(match reason {
        ErrorReason::SwitchInProgress => (
            "",
            "Wait until that switch has ended; `info` tells how it did",
        ),
        ErrorReason::SessionNotFound => (
            "open ",
            "It was closed or has lapsed, or the server was restarted: open another one",
        ),
        ErrorReason::StorageFull => ("", "Make room on the disk of the server's data directory"),
        ErrorReason::LimitReached => (
            "",
            "Remove what is not needed any more, or raise the server's limit",
        ),
        ErrorReason::SourceNotAllowed => (
            "",
            "The server's settings name the directories and repositories that it may read",
        ),
        ErrorReason::RequestIdReused => ("a new one", "Give each call a request id of its own"),
        ErrorReason::InsufficientMemory => (
            "",
            "Unload another model first, or take a smaller data type or context",
        ),
        ErrorReason::LoadTimeout => ("", "Give the load more time"),
        ErrorReason::WorkerDied | ErrorReason::WorkerHung => {
            ("", "The server's log has the worker's last words")
        }
        ErrorReason::MessageTooLarge => (
            "",
            "Send less in one request, or raise the server's limit on the size of requests",
        ),
        ErrorReason::MalformedMessage => {
            ("", "Make sure that client and server use the same protos")
        }
        ErrorReason::HubDenied => ("", "Check that the server's token may read the repository"),
        ErrorReason::HubUnavailable => (
            "",
            "Check that the server reaches the model hub; what was downloaded is kept",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reasons whose messages tell what to do by themselves, or where nothing can be done.
    const IN_THE_MESSAGE: &[&str] = &[
        "UNSPECIFIED",
        "MODEL_NOT_FOUND",
        "INVALID_FIELD",
        "TOKEN_INVALID",
        "MODEL_UNUSABLE",
        "UNSUPPORTED_BY_MODEL",
        "DEVICE_UNAVAILABLE",
        "QUEUE_FULL",
        "MODEL_NOT_LOADED",
        "MODEL_LOADING",
        "MODEL_UNLOADED",
        "LOAD_STALLED",
        "LOAD_CANCELLED",
        "CONTEXT_EXCEEDED",
        "UNAUTHENTICATED",
        "ROLE_REQUIRED",
        "SHUTTING_DOWN",
        "DEADLINE_EXCEEDED",
        "DEADLINE_TOO_SHORT",
        "PROMPT_TOO_LARGE",
        "NOT_IMPLEMENTED",
        "INTERNAL",
        "UNKNOWN_METHOD",
        "UNSUPPORTED_ENCODING",
        "NAME_NOT_FOUND",
        "CALL_BROKEN",
    ];

    #[test]
    fn every_reason_has_advice_or_needs_none() {
        let mut number = 0;
        // Numbers are taken in groups.
        for reason in (0..1000).filter_map(|number| ErrorReason::try_from(number).ok()) {
            let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
            let in_message = IN_THE_MESSAGE.contains(&name);
            assert_ne!(advice_for(reason).is_some(), in_message, "{name}");
            number += 1;
        }
        assert!(number > 40);
    }

    #[test]
    fn advice_goes_on_behind_a_full_stop() {
        let advices = (0..60).filter_map(|n| advice(ErrorReason::try_from(n).ok()?, ""));
        for text in advices {
            assert!(
                text.starts_with(char::is_uppercase) && !text.ends_with('.'),
                "{text}"
            );
        }
    }

    #[test]
    fn what_the_message_tells_is_not_told_again() {
        let message = "model m is loaded; unload it first, or give force";
        assert_eq!(advice(ErrorReason::ModelLoaded, message), None);
        assert!(advice(ErrorReason::ModelLoaded, "model m is loaded").is_some());
    }
}
