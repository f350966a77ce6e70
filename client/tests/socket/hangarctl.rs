//! The command line as a program: what it writes and how it exits.

use std::process::{Output, Stdio};

use hangar_client::{
    convert::to_proto_duration,
    v1::{
        FinishReason, GenerateChunk, GenerateDone, GenerateResponse, GetInfoResponse,
        LoadModelResponse, ModelInfo, ModelState, ModelUnload, ServerInfo, UnloadModelResponse,
        UnloadVerification, constraint::Constraint, generate_response::Event,
    },
};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};
use tonic::{Code, Status};

use crate::script::{Script, State, load, refused, snapshot, transition};

pub(crate) async fn hangarctl(script: &Script, arguments: &[&str], input: &str) -> Output {
    let (client, _tasks) = script.serve().await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_hangarctl"))
        .args(["--server", client.server()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read its input may have ended.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    child.wait_with_output().await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn chunk(text: &str) -> Result<GenerateResponse, Status> {
    let chunk = GenerateChunk {
        text: text.to_owned(),
        ..Default::default()
    };
    Ok(GenerateResponse {
        event: Some(Event::Chunk(chunk)),
    })
}

fn done() -> Result<GenerateResponse, Status> {
    let done = GenerateDone {
        finish_reason: FinishReason::Stop.into(),
        ..Default::default()
    };
    Ok(GenerateResponse {
        event: Some(Event::Done(done)),
    })
}

fn info() -> GetInfoResponse {
    let status = load(ModelState::Ready).status;
    let model = ModelInfo {
        model_id: "m".to_owned(),
        status,
        ..Default::default()
    };
    let server = ServerInfo {
        version: "9.8.7".to_owned(),
        engine_kernels: "x86-64-v3".to_owned(),
        uptime: Some(to_proto_duration(std::time::Duration::from_secs(61))),
        ..Default::default()
    };
    GetInfoResponse {
        server: Some(server),
        models: vec![model],
        ..Default::default()
    }
}

#[bounded::test]
async fn info_is_for_people_and_for_programs() {
    let script = Script::new(State {
        info: Some(info()),
        ..Default::default()
    });
    let output = hangarctl(&script, &["info"], "").await;
    let table = text(&output.stdout);
    for part in ["9.8.7", "x86-64-v3", "1m 1s", "MODEL", "READY"] {
        assert!(table.contains(part), "{part} is not in:\n{table}");
    }
    let output = hangarctl(&script, &["info", "--output", "json"], "").await;
    let [info] = &lines(&output)[..] else {
        panic!("not one line")
    };
    assert_eq!(info["models"][0]["status"]["state"], "MODEL_STATE_READY");
    assert_eq!(info["server"]["uptime"], "61s");
}

#[bounded::test]
async fn every_way_to_shape_an_answer_has_an_option() {
    let generate = vec![chunk("{}"), done()];
    let script = Script::new(State {
        generate,
        ..Default::default()
    });
    let file = std::env::temp_dir().join(format!("hangarctl-schema-{}", std::process::id()));
    std::fs::write(&file, "{\"type\": \"object\"}\n").unwrap();
    let schema = format!("@{}", file.display());
    let arguments = [
        "generate",
        "m",
        "hi",
        "--seed",
        "7",
        "--logprobs",
        "3",
        "--priority",
        "-2",
        "--json-schema",
        &schema,
        "--template-option",
        "enable_thinking=false",
        "--template-option",
        "style=plain",
    ];
    let output = hangarctl(&script, &arguments, "").await;
    std::fs::remove_file(file).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let request = script.state().generate_requests.pop().unwrap();
    assert_eq!(
        (request.seed, request.logprobs, request.top_logprobs),
        (Some(7), true, 3)
    );
    assert_eq!(request.priority, -2);
    let constraint = request.constraint.and_then(|it| it.constraint);
    let schema = Constraint::JsonSchema("{\"type\": \"object\"}".to_owned());
    assert_eq!(constraint, Some(schema));
    let options = request.chat_template_options.unwrap().fields;
    assert_eq!(options["enable_thinking"], false.into());
    assert_eq!(options["style"], "plain".into());
    for wrong in [
        &["--regex", "a", "--lark", "b"][..],
        &["--template-option", "x"],
        &["--raw", "--template-option", "x=1"],
        &["--json-schema", "@/nowhere/at/all"],
    ] {
        let output = hangarctl(&script, &[&["generate", "m", "hi"], wrong].concat(), "").await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[bounded::test]
async fn an_answer_is_written_as_it_is_and_its_prompt_may_come_from_standard_input() {
    let generate = vec![chunk("Hel"), chunk("lo"), done()];
    let script = Script::new(State {
        generate,
        ..Default::default()
    });
    let arguments = [
        "generate",
        "m",
        "--system",
        "s",
        "--temperature",
        "0",
        "--stop",
        "x",
        "-",
    ];
    let output = hangarctl(&script, &arguments, "from a pipe").await;
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("Hello\n", Some(0))
    );
    let request = script.state().generate_requests.pop().unwrap();
    let messages: Vec<_> = request
        .messages
        .iter()
        .map(|m| (m.role.as_str(), m.content.as_str()))
        .collect();
    assert_eq!(messages, [("system", "s"), ("user", "from a pipe")]);
    assert_eq!(
        request.sampling.and_then(|sampling| sampling.temperature),
        Some(0.0)
    );
    assert_eq!(request.stop, ["x"]);
}

#[bounded::test]
async fn an_answer_that_breaks_off_keeps_its_text_and_fails() {
    let generate = vec![chunk("Hel"), Err(refused(Code::Unavailable, "WORKER_DIED"))];
    let script = Script::new(State {
        generate,
        ..Default::default()
    });
    let output = hangarctl(&script, &["generate", "m", "p"], "").await;
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("Hel\n", Some(1))
    );
    assert!(text(&output.stderr).contains("UNAVAILABLE/WORKER_DIED"));
}

#[bounded::test]
async fn an_answer_without_an_end_is_a_failure() {
    let script = Script::new(State {
        generate: vec![chunk("Hel")],
        ..Default::default()
    });
    let output = hangarctl(&script, &["generate", "m", "p"], "").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the answer ended without saying why"));
}

#[bounded::test]
async fn a_watch_is_written_line_by_line_with_its_tokens() {
    let script = Script::watches([
        vec![
            snapshot("t0", "a", false),
            snapshot("t0", "b", true),
            transition(1),
        ],
        vec![Err(refused(Code::PermissionDenied, "ROLE_REQUIRED"))],
    ]);
    let output = hangarctl(&script, &["watch", "-o", "json"], "").await;
    let [snapshot, change] = &lines(&output)[..] else {
        panic!("not two lines")
    };
    assert_eq!(
        snapshot["snapshot"]["models"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(change["changed"]["status"]["state"], "MODEL_STATE_LOADING");
    assert_eq!(change["resumeToken"], "t1");
    assert_eq!(output.status.code(), Some(1));
}

#[bounded::test]
async fn a_load_waits_and_an_unload_prints_what_was_freed() {
    let unload = ModelUnload {
        model_id: "m".to_owned(),
        was_loaded: true,
        host_bytes_freed: 2048,
        verification: UnloadVerification::Reaped.into(),
        ..Default::default()
    };
    let script = Script::new(State {
        watches: [vec![snapshot("t0", "m", true), transition(1)]].into(),
        loads: [Ok(LoadModelResponse {
            loads: vec![load(ModelState::Ready)],
        })]
        .into(),
        unload: Some(UnloadModelResponse {
            unloads: vec![unload],
            ..Default::default()
        }),
        ..Default::default()
    });
    let output = hangarctl(&script, &["load", "m", "--path", "/m"], "").await;
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("m is READY\n", Some(0))
    );
    assert!(script.state().load_requests[0].wait);
    let output = hangarctl(&script, &["unload", "m"], "").await;
    assert!(
        text(&output.stdout).starts_with("m is unloaded: 2.0 KiB of memory came back (REAPED)")
    );
}

#[bounded::test]
async fn failures_are_printed_as_json_for_programs() {
    let script = Script::new(State {
        loads: [Err(refused(Code::FailedPrecondition, "SPEC_CONFLICT"))].into(),
        ..Default::default()
    });
    let output = hangarctl(&script, &["load", "m", "--no-wait", "-o", "json"], "").await;
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(failure["error"]["code"], "FAILED_PRECONDITION");
    assert_eq!(failure["error"]["reason"], "SPEC_CONFLICT");
    assert_eq!(output.status.code(), Some(1));
}

#[bounded::test]
async fn wrong_usage_and_no_server_have_their_own_exit_codes() {
    let script = Script::default();
    let output = hangarctl(&script, &["load", "m", "--spec", "{"], "").await;
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(env!("CARGO_BIN_EXE_hangarctl"))
        .args(["--server", "http://127.0.0.1:1", "info"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("cannot reach http://127.0.0.1:1"));
}
