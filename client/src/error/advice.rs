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
            "Try again later where RetryInfo says so, remove what is not needed any more, or raise the server's limit",
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
        ErrorReason::FilesUnavailable => (
            "check that it is mounted",
            "Check that the file system of the model's files is mounted and answers",
        ),
        ErrorReason::HubUnavailable => (
            "",
            "Check that the server reaches the model hub; what was downloaded is kept",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
