//! What CONTRIBUTING's recipes leave to be done and neither the compiler nor clippy names.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{pages, sources::sources_without_tests, workspace};

const PROTO: &str = "server/worker-protocol/proto/hangar/worker/v1/worker_service.proto";

/// Where what an engine is built from is listed.
const SPEC: &str = "server/src/model/spec.rs";

/// Where the states of a model are, with a picture of them.
const STATE: &str = "server/src/model/state.rs";

/// Fields of the worker's configuration that say nothing to the worker: the scripted worker answers with them.
const UNREAD: [&str; 1] = ["max_concurrency"];

/// The names of the fields of a message, and of its oneofs.
fn fields(message: &str) -> Result<Vec<String>> {
    let proto = fs::read_to_string(workspace().join(PROTO))?;
    let (_, body) = proto
        .split_once(&format!("\nmessage {message} {{\n"))
        .context("a message")?;
    let (body, _) = body.split_once("\n}\n").context("its end")?;
    let mut fields = Vec::new();
    for line in body.lines().map(str::trim) {
        let is_field = !line.starts_with("//") && !line.starts_with("reserved");
        if let Some((field, _)) = line.split_once(" = ")
            && is_field
        {
            fields.extend(field.split_whitespace().last().map(str::to_owned));
        }
    }
    Ok(fields)
}

/// The names of what an engine is built from.
fn engine_inputs() -> Result<Vec<String>> {
    let code = fs::read_to_string(workspace().join(SPEC))?;
    let (_, body) = code
        .split_once("pub struct EngineInputs<'a> {\n")
        .context("EngineInputs")?;
    let (body, _) = body.split_once("\n}\n").context("its end")?;
    let names = body.lines().filter_map(|line| {
        let (name, _) = line.trim().strip_prefix("pub ")?.split_once(':')?;
        Some(name.to_owned())
    });
    Ok(names.collect())
}

/// The worker's code, without tests and comments.
fn worker_code() -> Result<String> {
    let sources = sources_without_tests("server/worker/src")?;
    let lines = sources.iter().flat_map(|(_, text)| text.lines());
    let code: Vec<_> = lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    Ok(code.join("\n"))
}

/// Whether the code reads a field: after a dot, or by taking it out of the message. What is left out with `field: _`,
/// or shares the name as a part of another, reads nothing.
fn is_read(code: &str, field: &str) -> bool {
    let mut places = code.match_indices(field);
    places.any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = code[at + field.len()..].chars().next().unwrap_or(' ');
        let taken = before.is_whitespace() && after == ',';
        (before == '.' || taken) && !after.is_ascii_alphanumeric() && after != '_'
    })
}

#[test]
fn the_worker_reads_every_field_of_its_configuration() -> Result<()> {
    let code = worker_code()?;
    let fields = fields("WorkerConfig")?;
    ensure!(fields.len() > 15, "{fields:?}");
    // The source is a oneof, which is matched by its variants.
    let variants = ["path", "demo"];
    for field in fields
        .iter()
        .filter(|field| !variants.contains(&field.as_str()))
    {
        let unread = UNREAD.contains(&field.as_str());
        ensure!(
            is_read(&code, field) != unread,
            "nobody in the worker reads {field}"
        );
    }
    Ok(())
}

#[test]
fn the_worker_reads_all_that_an_engine_is_built_from() -> Result<()> {
    let code = worker_code()?;
    let inputs = engine_inputs()?;
    ensure!(inputs.len() > 10, "{inputs:?}");
    for field in inputs {
        ensure!(is_read(&code, &field), "nobody in the worker reads {field}");
    }
    Ok(())
}

#[test]
fn a_field_that_is_left_out_is_not_read() {
    assert!(is_read("config.kind()", "kind"));
    assert!(is_read("    kind,\n", "kind"));
    for code in ["kind: _,", "config.kind_of", "mankind,", "\"kind\""] {
        assert!(!is_read(code, "kind"), "{code}");
    }
}

#[test]
fn the_page_of_states_has_the_picture_of_the_state_machine() -> Result<()> {
    let code = fs::read_to_string(workspace().join(STATE))?;
    let begun = code.split_once("//! ```text\n").context("a picture")?.1;
    let (picture, _) = begun.split_once("//! ```\n").context("its end")?;
    let lines = picture.lines().map(|line| line.trim_start_matches("//!"));
    let lines: Vec<_> = lines
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let picture = format!("```text\n{}\n```", lines.join("\n"));
    pages::check("docs/devices.md", "states", &picture)
}
