//! What CONTRIBUTING's recipes leave to be done and neither the compiler nor clippy names.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{pages, sources::sources_without_tests, workspace};

const PROTO: &str = "server/worker-protocol/proto/hangar/worker/v1/worker_service.proto";

/// Where what an engine is built from is listed.
const SPEC: &str = "server/src/model/spec.rs";

/// Where specs are messages.
const WIRE: &str = "server/src/wire";

const WORKER: &str = "server/worker/src";

/// Where the states of a model are, with a picture of them.
const STATE: &str = "server/src/model/state.rs";

/// Where what happens to a model is listed.
const TRANSITION: &str = "server/src/model/state/transition.rs";

/// What the worker calls its configuration, and the spec in it.
const MESSAGES: [&str; 3] = ["config", "spec()", "spec"];

/// Fields of a spec that the server only keeps.
const FOR_PEOPLE: [&str; 5] = [
    "display_name",
    "description",
    "provider",
    "languages",
    "capabilities",
];

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

/// The names of the fields of a type that [`SPEC`] defines.
fn fields_of(name: &str) -> Result<Vec<String>> {
    let code = fs::read_to_string(workspace().join(SPEC))?;
    let (_, body) = code
        .split_once(&format!("pub struct {name} {{\n"))
        .with_context(|| name.to_owned())?;
    let (body, _) = body.split_once("\n}\n").context("its end")?;
    let names = body.lines().filter_map(|line| {
        let (name, _) = line.trim().strip_prefix("pub ")?.split_once(':')?;
        Some(name.to_owned())
    });
    Ok(names.collect())
}

/// The names of what an engine is built from.
fn engine_inputs() -> Result<Vec<String>> {
    fields_of("EngineInputs<'a>")
}

/// The code of a folder, without tests and comments and what is at `left_out`; what goes on in a further line with a dot
/// is one line.
fn code_of(folder: &str, left_out: &[&str]) -> Result<String> {
    let mut code = String::new();
    let mut sources = sources_without_tests(folder)?;
    sources.retain(|(name, _)| !left_out.iter().any(|path| name.starts_with(path)));
    for (_, text) in sources {
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.starts_with("//")) {
            if !line.starts_with('.') {
                code.push('\n');
            }
            code.push_str(line);
        }
    }
    Ok(code)
}

/// Whether the code names this, and not only something longer.
fn names(code: &str, name: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let goes_on = code[at + name.len()..].starts_with(is_of_name);
        !goes_on && !code[..at].ends_with(is_of_name)
    })
}

/// Whether the code reads a field of the configuration, or of the spec in it.
fn is_read(code: &str, field: &str) -> bool {
    let mut messages = MESSAGES.iter();
    messages.any(|message| names(code, &format!("{message}.{field}")))
}

#[bounded::test]
fn the_worker_reads_every_field_of_its_configuration() -> Result<()> {
    let code = code_of(WORKER, &[])?;
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

#[bounded::test]
fn the_worker_reads_all_that_an_engine_is_built_from() -> Result<()> {
    let code = code_of(WORKER, &[])?;
    let inputs = engine_inputs()?;
    ensure!(inputs.len() > 10, "{inputs:?}");
    for field in inputs {
        ensure!(is_read(&code, &field), "nobody in the worker reads {field}");
    }
    Ok(())
}

#[bounded::test]
fn the_server_reads_all_of_a_spec_that_is_not_for_the_engine_or_for_people() -> Result<()> {
    let code = code_of("server/src", &[SPEC, WIRE])?;
    let inputs = engine_inputs()?;
    let mut fields = fields_of("Spec")?;
    fields.retain(|field| !inputs.contains(field));
    ensure!(fields.len() > 10, "{fields:?}");
    for field in fields {
        let unread = FOR_PEOPLE.contains(&field.as_str());
        ensure!(
            is_read(&code, &field) != unread,
            "{field}: whoever reads it, or a place in FOR_PEOPLE"
        );
    }
    Ok(())
}

#[bounded::test]
fn a_field_is_read_of_the_configuration_and_not_of_anything_else() {
    for code in ["config.kind()", " config.spec().kind,", "&spec.kind;"] {
        assert!(is_read(code, "kind"), "{code}");
    }
    for code in [
        "kind: _,",
        "config.kind_of",
        "model.kind",
        "subconfig.kind",
        "\"kind\"",
    ] {
        assert!(!is_read(code, "kind"), "{code}");
    }
}

#[bounded::test]
fn somebody_reports_every_event_of_a_model() -> Result<()> {
    let code = code_of("server/src/lifecycle", &[])?;
    let events = fs::read_to_string(workspace().join(TRANSITION))?;
    let (_, body) = events.split_once("pub enum Event {\n").context("Event")?;
    let (body, _) = body.split_once("\n}\n").context("its end")?;
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = lines.filter(|line| line.starts_with(char::is_uppercase));
    let mut events = 0;
    for event in variants.filter_map(|line| line.split([',', '(', ' ']).next()) {
        let reported = names(&code, &format!("Event::{event}"));
        ensure!(reported, "nobody in the lifecycle reports {event}");
        events += 1;
    }
    ensure!(events > 15, "{events}");
    Ok(())
}

#[bounded::test]
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
