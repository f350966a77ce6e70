//! What CONTRIBUTING's recipes leave to be done and neither the compiler nor clippy names.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};

use crate::{
    PUBLIC, compile, pages, protos,
    sources::{code, names, sources, sources_without_tests},
    workspace,
};

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

/// What an engine is built from and GetInfo tells of in another place than its metadata: what templates support, the id of
/// the tokenizer, and the blocks of the cache in the status.
const TOLD_ELSEWHERE: [&str; 3] = ["chat_template", "tokenizer", "kv_cache"];

/// Where the end-to-end tests are, those with real engines among them, and those that a machine with a GPU runs.
const SUITES: &str = "tests/tests";
const ENGINE: &str = "tests/tests/engine";
const GPU_CHECK: &str = "tests/src/bin/gpu-check";

/// Where the attributes of metrics are declared, and made.
const LABELS: &str = "server/src/telemetry/labels.rs";

/// What makes attributes: of metrics, and of the server itself.
const MAKE_ATTRIBUTES: [&str; 2] = [LABELS, "server/src/telemetry.rs"];

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

/// The names of the variants of an enum that `file` defines.
fn variants(file: &str, name: &str) -> Result<Vec<String>> {
    let code = fs::read_to_string(workspace().join(file))?;
    let (_, body) = code
        .split_once(&format!("pub enum {name} {{\n"))
        .with_context(|| name.to_owned())?;
    let (body, _) = body.split_once("\n}\n").context("its end")?;
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = lines.filter(|line| line.starts_with(char::is_uppercase));
    let names = variants.filter_map(|line| line.split([',', '(', ' ']).next());
    Ok(names.map(str::to_owned).collect())
}

/// The names of what an engine is built from.
fn engine_inputs() -> Result<Vec<String>> {
    fields_of("EngineInputs<'a>")
}

/// The code of a folder without tests, and without what is at `left_out`.
fn code_of(folder: &str, left_out: &[&str]) -> Result<String> {
    let mut sources = sources_without_tests(folder)?;
    sources.retain(|(name, _)| !left_out.iter().any(|path| name.starts_with(path)));
    Ok(code(&sources))
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
    let events = variants(TRANSITION, "Event")?;
    ensure!(events.len() > 15, "{events:?}");
    for event in events {
        let reported = names(&code, &format!("Event::{event}"));
        ensure!(reported, "nobody in the lifecycle reports {event}");
    }
    Ok(())
}

/// The states that code names as variants of the API's `ModelState`, alone or in braces.
fn model_states(code: &str) -> BTreeSet<&str> {
    let named = code.split("ModelState::").skip(1).flat_map(|rest| {
        let end = match rest.starts_with('{') {
            true => rest.find('}'),
            false => rest.find(|c: char| !c.is_ascii_alphanumeric()),
        };
        rest[..end.unwrap_or(rest.len())].split(['{', ',', ' ', '\n'])
    });
    named.collect()
}

#[bounded::test]
fn an_end_to_end_test_names_every_state_of_a_model() -> Result<()> {
    let code = code(&sources(&[SUITES])?);
    let named = model_states(&code);
    let states = variants(STATE, "State")?;
    ensure!(states.len() > 10, "{states:?}");
    for state in states {
        ensure!(named.contains(&*state), "no test in {SUITES} is of {state}");
    }
    Ok(())
}

#[bounded::test]
fn states_are_named_alone_or_in_braces() {
    let code =
        "use v1::{LoadPhase::Loading, ModelState::{self, Ready,\nFailed}}; ModelState::Backoff)";
    let named = model_states(code);
    for state in ["Ready", "Failed", "Backoff"] {
        assert!(named.contains(state), "{named:?}");
    }
    assert!(!named.contains("Loading"), "{named:?}");
}

/// Whether the code gives this field a value: assigned, in a literal, or by a setter.
fn is_set(code: &str, field: &str) -> bool {
    let forms = [
        format!(".{field} = "),
        format!(" {field}: "),
        format!(".{field}("),
    ];
    let begun = code.split_whitespace().collect::<Vec<_>>().join(" ");
    forms.iter().any(|form| begun.contains(form))
}

#[bounded::test]
fn an_end_to_end_test_sets_every_field_of_a_spec() -> Result<()> {
    let all = code(&sources(&[SUITES])?);
    let engine = code(&sources(&[ENGINE, GPU_CHECK])?);
    let (fields, inputs) = (fields_of("Spec")?, engine_inputs()?);
    ensure!(fields.len() > 20, "{fields:?}");
    for field in fields {
        let (code, suites) = match inputs.contains(&field) {
            true => (&engine, ENGINE),
            false => (&all, SUITES),
        };
        ensure!(is_set(code, &field), "no test in {suites} sets {field}");
    }
    Ok(())
}

#[bounded::test]
fn metadata_tells_of_all_that_an_engine_is_built_from() -> Result<()> {
    let set = compile(&protos(PUBLIC)?)?;
    let mut messages = set.file.iter().flat_map(|file| &file.message_type);
    let metadata = messages.find(|message| message.name() == "ModelMetadata");
    let metadata = &metadata.context("ModelMetadata")?.field;
    for input in engine_inputs()? {
        let is_told = metadata.iter().any(|field| field.name() == input);
        ensure!(
            is_told != TOLD_ELSEWHERE.contains(&&*input),
            "{input}: a field of ModelMetadata, or a place in TOLD_ELSEWHERE"
        );
    }
    Ok(())
}

#[bounded::test]
fn attributes_of_metrics_are_made_by_their_labels() -> Result<()> {
    for (name, text) in sources_without_tests("server/src")? {
        let makes = text.contains("KeyValue::new");
        ensure!(
            !makes || MAKE_ATTRIBUTES.contains(&&*name),
            "{name} makes an attribute: {LABELS} declares those of metrics"
        );
    }
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
