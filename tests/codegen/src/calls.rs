//! What belongs to each call: its codes in its comment, a place in the tour of the API, a builder of the client, and an
//! end-to-end test.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use prost_types::FileDescriptorSet;

use crate::{
    OPEN_INFERENCE, PUBLIC, compile,
    method_names::snake_case,
    protos,
    sources::{code, names, sources, sources_without_tests},
    workspace,
};

/// The page that shows what the API does.
const TOUR: &str = "docs/api.md";

/// Where the end-to-end tests are.
const SUITES: &str = "tests/tests";

/// Calls that people have no use for, and why.
const WITHOUT_BUILDER: [(&str, &str); 0] = [];

/// Calls that the end-to-end tests make through `Stubs`, which has another name for them.
const BY_STUBS: [(&str, &str); 2] = [
    ("GetSession", "stubs.session("),
    ("CloseSession", "stubs.close("),
];

/// The codes of gRPC but OK.
const CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Codes and reasons in a comment, as in `NOT_FOUND/MODEL_NOT_FOUND`; those behind the first of a code stand alone.
fn codes(comment: &str) -> Vec<(String, String)> {
    let joined = comment.replace("/\n", "/").replace("/ ", "/");
    let words = joined.split(|c: char| !c.is_ascii_uppercase() && c != '_' && c != '/');
    let pairs = words.filter_map(|word| word.split_once('/'));
    pairs
        .map(|(code, reason)| (code.to_owned(), reason.to_owned()))
        .collect()
}

/// A call of the API.
struct ApiCall {
    name: String,
    comment: String,
}

/// All of them.
fn calls(set: &FileDescriptorSet) -> Result<Vec<ApiCall>> {
    let mut calls = Vec::new();
    for file in &set.file {
        let source = file.source_code_info.clone().unwrap_or_default();
        for (n, service) in (0..).zip(&file.service) {
            for (m, method) in (0..).zip(&service.method) {
                // The method `m` of the file's service `n`.
                let mut places = source.location.iter();
                let comment = places.find(|place| place.path == [6, n, 2, m]);
                calls.push(ApiCall {
                    name: method.name().to_owned(),
                    comment: comment.context("a comment")?.leading_comments().to_owned(),
                });
            }
        }
    }
    ensure!(calls.len() > 15, "{}", calls.len());
    Ok(calls)
}

#[bounded::test]
fn every_call_names_its_codes_and_reasons() -> Result<()> {
    let set = compile(&protos(PUBLIC)?)?;
    let enums = set.file.iter().flat_map(|file| &file.enum_type);
    let mut reasons = enums.filter(|choice| choice.name() == "ErrorReason");
    let reasons = reasons.next().context("the reasons")?.value.iter();
    let reasons: BTreeSet<_> = reasons
        .map(|value| value.name().trim_start_matches("ERROR_REASON_"))
        .collect();
    for ApiCall { name, comment } in calls(&set)? {
        let told = comment.split_once("Codes:").map(|(_, told)| codes(told));
        let told = told.unwrap_or_default();
        ensure!(!told.is_empty(), "{name} names no codes");
        for (code, reason) in told {
            let known = CODES.contains(&&*code) && reasons.contains(&*reason);
            ensure!(known, "{name}: what is {code}/{reason}?");
        }
    }
    Ok(())
}

#[bounded::test]
fn the_tour_of_the_api_names_every_call() -> Result<()> {
    let page = std::fs::read_to_string(workspace().join(TOUR))?;
    let words: BTreeSet<_> = page.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for ApiCall { name, .. } in calls(&compile(&protos(PUBLIC)?)?)? {
        ensure!(words.contains(&*name), "{TOUR} does not name {name}");
    }
    Ok(())
}

#[bounded::test]
fn the_client_makes_every_call() -> Result<()> {
    let mut sources = sources_without_tests("client/src")?;
    // The command line makes calls through the client.
    sources.retain(|(name, _)| !name.starts_with("client/src/bin"));
    let code = code(&sources);
    for ApiCall { name, .. } in calls(&compile(&protos(PUBLIC)?)?)? {
        let method = snake_case(&name);
        let stubs = ["stub", "_service()"];
        let mut calls = stubs.iter().map(|stub| format!("{stub}.{method}("));
        let is_made = calls.any(|call| code.contains(&call));
        let is_left_out = WITHOUT_BUILDER.iter().any(|(call, _)| *call == name);
        ensure!(
            is_made != is_left_out,
            "{name}: a builder in client/src, or a place in WITHOUT_BUILDER"
        );
    }
    Ok(())
}

#[bounded::test]
fn an_end_to_end_test_makes_every_call() -> Result<()> {
    let code = code(&sources(&[SUITES])?);
    let protos = [protos(PUBLIC)?, protos(OPEN_INFERENCE)?].concat();
    for ApiCall { name, .. } in calls(&compile(&protos)?)? {
        let by_stubs = BY_STUBS.iter().find(|(call, _)| *call == name);
        let is_made = names(&code, &format!("{name}Request"))
            || code.contains(&format!("Service/{name}\""))
            || code.contains(&format!(".{}(", snake_case(&name)))
            || by_stubs.is_some_and(|(_, call)| code.contains(call));
        ensure!(is_made, "no test in {SUITES} makes the call {name}");
    }
    Ok(())
}
