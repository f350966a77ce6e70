//! Every reason has words about what to do, and the page of errors has them all.

use std::fmt::Write;

use prost::Message;
use prost_types::FileDescriptorSet;

use super::*;

const PAGE: &str = "docs/errors.md";
const FILE: &str = "hangar/v1/error_reason.proto";
const PREFIX: &str = "ERROR_REASON_";

/// Reasons whose messages say by themselves what to do, or where little can be done; for the page.
const IN_THE_MESSAGE: &[(&str, &str)] = &[
    (
        "MODEL_NOT_FOUND",
        "Take one of the known ids, or give a spec with the load",
    ),
    ("INVALID_FIELD", "Change the fields that BadRequest names"),
    (
        "TOKEN_INVALID",
        "Begin without a token, or repeat the request with the filter and order of the token",
    ),
    (
        "MODEL_UNUSABLE",
        "The message names the file, field, tensor or key: change it, or take another model",
    ),
    (
        "UNSUPPORTED_BY_MODEL",
        "Take a model of the kind that the message names",
    ),
    (
        "DEVICE_UNAVAILABLE",
        "Install what the message names, or take another device",
    ),
    (
        "QUEUE_FULL",
        "Try again after RetryInfo, or raise the model's `max_queue`",
    ),
    (
        "MODEL_NOT_LOADED",
        "Load the model, or set `load_on_demand` in its spec",
    ),
    ("MODEL_LOADING", "Try again after RetryInfo"),
    ("MODEL_UNLOADED", "Load the model and ask again"),
    (
        "LOAD_STALLED",
        "Look at the storage of the model's files; a larger `--stall-timeout` gives more time",
    ),
    (
        "LOAD_CANCELLED",
        "Load again if that unload was not meant for you",
    ),
    (
        "CONTEXT_EXCEEDED",
        "Shorten the prompt, lower `max_tokens`, or raise `context_length`",
    ),
    (
        "UNAUTHENTICATED",
        "Not used yet: there is no authentication",
    ),
    ("ROLE_REQUIRED", "Not used yet: there are no roles"),
    (
        "SHUTTING_DOWN",
        "Try again after RetryInfo, here or elsewhere",
    ),
    ("DEADLINE_EXCEEDED", "Give more time, or ask for less"),
    (
        "DEADLINE_TOO_SHORT",
        "Give a longer deadline or a shorter prompt",
    ),
    (
        "PROMPT_TOO_LARGE",
        "Give a shorter prompt, or load the model anew",
    ),
    (
        "NOT_IMPLEMENTED",
        "Leave out the field that the metadata name",
    ),
    ("INTERNAL", "Look for the `error_id` in the server's log"),
    ("UNKNOWN_METHOD", "Use the protos of the server's version"),
    (
        "UNSUPPORTED_ENCODING",
        "Compress with gzip or zstd, or not at all",
    ),
    ("NAME_NOT_FOUND", "Take one of the names in the message"),
    ("CALL_BROKEN", "Try again after RetryInfo"),
];

fn in_message(name: &str) -> Option<&'static str> {
    let words = IN_THE_MESSAGE.iter().find(|(known, _)| *known == name);
    words.map(|(_, words)| *words)
}

/// The name of each reason, without the prefix of all, and its comment in the proto.
fn reasons() -> Vec<(ErrorReason, String, String)> {
    let set = FileDescriptorSet::decode(crate::v1::FILE_DESCRIPTOR_SET).unwrap();
    let file = set.file.iter().find(|file| file.name() == FILE).unwrap();
    let source = file.source_code_info.as_ref().unwrap();
    let values = file.enum_type[0].value.iter().enumerate().skip(1);
    values
        .map(|(at, value)| {
            // The value `at` of the file's first enum.
            let path = [5, 0, 2, i32::try_from(at).unwrap()];
            let location = source.location.iter().find(|place| place.path == path);
            let comment = location.unwrap().leading_comments().replace('\n', " ");
            let words: Vec<_> = comment.split_whitespace().collect();
            let name = value.name().trim_start_matches(PREFIX).to_owned();
            let reason = ErrorReason::try_from(value.number()).unwrap();
            (reason, name, words.join(" "))
        })
        .collect()
}

#[bounded::test]
fn every_reason_has_advice_or_says_by_itself_what_to_do() {
    let reasons = reasons();
    assert!(reasons.len() > 40);
    for (reason, name, _) in reasons {
        assert_ne!(
            advice_for(reason).is_some(),
            in_message(&name).is_some(),
            "{name}: advice, or a place in this list"
        );
    }
}

#[bounded::test]
fn advice_goes_on_behind_a_full_stop() {
    let reasons = reasons();
    let advices = reasons
        .iter()
        .filter_map(|(reason, _, _)| advice(*reason, ""));
    for text in advices.chain(IN_THE_MESSAGE.iter().map(|(_, words)| *words)) {
        assert!(
            text.starts_with(char::is_uppercase) && !text.ends_with('.'),
            "{text}"
        );
    }
}

#[bounded::test]
fn advice_does_not_repeat_the_message() {
    let message = "model m is loaded; unload it first, or give force";
    assert_eq!(advice(ErrorReason::ModelLoaded, message), None);
    assert!(advice(ErrorReason::ModelLoaded, "model m is loaded").is_some());
}

#[bounded::test]
fn the_page_of_errors_has_every_reason() {
    let mut page = "| reason | code | meaning | what to do |\n|---|---|---|---|\n".to_owned();
    for (reason, name, comment) in reasons() {
        let (code, meaning) = comment.split_once(": ").unwrap();
        assert!(
            code.chars().all(|c| c.is_ascii_uppercase() || c == '_'),
            "{name}: {code}"
        );
        let todo = in_message(&name).or(advice_for(reason).map(|(_, advice)| advice));
        let todo = todo.unwrap_or_default();
        writeln!(page, "| {name} | {code} | {meaning} | {todo} |").unwrap();
    }
    hangar_codegen::pages::check(PAGE, "reasons", &page).unwrap();
}
