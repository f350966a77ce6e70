//! The command line for the catalog, switches and sessions.

use std::collections::BTreeMap;

use hangar_client::v1::{
    CreateModelResponse, CreateSessionResponse, DeleteModelResponse, GetInfoResponse,
    ListModelsResponse, Model, ModelInfo, Session, SwitchInfo, SwitchOutcome, model_source::Source,
};
use serde_json::Value;
use tonic::Code;

use crate::{
    catalog::{got, model, updated},
    hangarctl::{hangarctl, text},
    script::{Asked, Script, refused, snapshot, switch, switched},
    switches::{begun, info},
};

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[bounded::test]
async fn a_model_is_created_from_a_file_and_flags() {
    let script = Script::default();
    let created = CreateModelResponse {
        model: Some(model("e1", 0)),
    };
    script.state().catalog.creates = Asked::with([Ok(created)]);
    let arguments = [
        "models",
        "create",
        "m",
        "--file",
        "-",
        "--label",
        "team=search",
        "--alias",
        "chat",
        "--preload",
    ];
    let toml = "context_length = 512\nsource.path = \"/m\"\n[labels]\nsize = \"small\"\n";
    let output = hangarctl(&script, &arguments, toml).await;
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("m is registered; `hangarctl load m` loads it\n", Some(0))
    );
    let request = script.state().catalog.creates.requests[0].clone();
    assert_eq!(request.aliases, ["chat"]);
    let spec = request.spec.unwrap();
    let labels = [("size", "small"), ("team", "search")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(spec.labels, BTreeMap::from(labels));
    assert_eq!((spec.context_length, spec.preload), (512, true));
    let source = spec.source.and_then(|source| source.source);
    assert_eq!(source, Some(Source::Path("/m".to_owned())));
}

#[bounded::test]
async fn a_taken_name_is_refused_with_what_to_do() {
    let script = Script::default();
    let taken = || Err(refused(Code::AlreadyExists, "MODEL_EXISTS"));
    script.state().catalog.creates = Asked::with([taken(), taken()]);
    let arguments = ["models", "create", "m", "--demo"];
    let output = hangarctl(&script, &arguments, "").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("(ALREADY_EXISTS/MODEL_EXISTS). Take another name"));
    let output = hangarctl(&script, &[&arguments[..], &["--json"]].concat(), "").await;
    let error = &json(&output.stderr)["error"];
    assert_eq!(error["code"], "ALREADY_EXISTS");
    assert_eq!(error["reason"], "MODEL_EXISTS");
}

#[bounded::test]
async fn arguments_that_make_no_sense_together_are_wrong_usage() {
    let script = Script::default();
    for arguments in [
        &["models", "create", "m"][..],
        &["models", "create", "m", "--file", "/nowhere/spec.json"],
        &["switch", "chat", "m", "--dtype", "f16"],
        &["load", "--all", "--dtype", "f16"],
        &["session", "create", "--ttl", "soon"],
    ] {
        let output = hangarctl(&script, arguments, "").await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[bounded::test]
async fn models_are_listed_over_all_pages() {
    let script = Script::default();
    let page = |id: &str, next: &str| {
        let mut model = Model {
            model_id: id.to_owned(),
            aliases: vec![format!("{id}-alias")],
            ..model("e", 0)
        };
        let labels = &mut model.spec.get_or_insert_default().labels;
        labels.insert("team".to_owned(), "search".to_owned());
        Ok(ListModelsResponse {
            models: vec![model],
            next_page_token: next.to_owned(),
            total_size: 2,
        })
    };
    let pages = || [page("a", "p2"), page("b", "")];
    script.state().catalog.lists = Asked::with(pages().into_iter().chain(pages()));
    let arguments = [
        "models",
        "list",
        "--label",
        "team",
        "--order",
        "update-time",
    ];
    let output = hangarctl(&script, &arguments, "").await;
    let table = text(&output.stdout);
    for part in ["MODEL", "a-alias", "b-alias", "team=search"] {
        assert!(table.contains(part), "{part} is not in:\n{table}");
    }
    let output = hangarctl(&script, &["models", "ls", "--json"], "").await;
    let list = json(&output.stdout);
    assert_eq!(list["models"][1]["modelId"], "b");
    assert_eq!(list["totalSize"], "2");
    let requests = script.state().catalog.lists.requests.clone();
    let filter = requests[0].filter.clone().unwrap();
    assert_eq!(filter.labels["team"], "");
}

#[bounded::test]
async fn an_empty_catalog_is_said() {
    let script = Script::default();
    script.state().catalog.lists = Asked::with([Ok(ListModelsResponse::default())]);
    let output = hangarctl(&script, &["models", "list"], "").await;
    assert!(text(&output.stdout).starts_with("No such models."));
}

#[bounded::test]
async fn a_spec_that_was_got_can_be_given_again() {
    let script = Script::default();
    script.state().catalog.gets = Asked::with((0..4).map(|_| got(model("e1", 7))));
    let output = hangarctl(&script, &["models", "get", "m", "--spec-only"], "").await;
    assert_eq!(json(&output.stdout), serde_json::json!({"priority": 7}));
    // The same again is no change.
    let arguments = ["models", "update", "m", "--file", "-"];
    let output = hangarctl(&script, &arguments, text(&output.stdout)).await;
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("m is so already, at version 0\n", Some(0))
    );
    let output = hangarctl(&script, &["models", "get", "m"], "").await;
    for part in ["Etag", "e1", "\"priority\": 7"] {
        assert!(text(&output.stdout).contains(part), "{part}");
    }
}

#[bounded::test]
async fn an_update_changes_what_is_given() {
    let script = Script::default();
    let mut old = model("e1", 7);
    let labels = &mut old.spec.get_or_insert_default().labels;
    labels.insert("trial".to_owned(), "1".to_owned());
    script.state().catalog.gets = Asked::with([got(old)]);
    let mut new = updated(model("e2", 7)).unwrap();
    new.reload_required = true;
    script.state().catalog.updates = Asked::with([Ok(new)]);
    let arguments = [
        "models",
        "update",
        "m",
        "--label",
        "team=search",
        "--remove-label",
        "trial",
        "--alias",
        "chat",
        "--context-length",
        "9",
    ];
    let output = hangarctl(&script, &arguments, "").await;
    assert!(
        text(&output.stdout).contains("--force-reload"),
        "{output:?}"
    );
    let request = script.state().catalog.updates.requests[0].clone();
    let mask = request.update_mask.unwrap().paths;
    assert_eq!(mask, ["spec.labels", "spec.context_length", "aliases"]);
    let spec = request.model.unwrap().spec.unwrap();
    assert_eq!(spec.labels.into_keys().collect::<Vec<_>>(), ["team"]);
    assert_eq!((spec.context_length, spec.priority), (9, 7));
}

#[bounded::test]
async fn a_delete_passes_force_and_the_etag_on() {
    let script = Script::default();
    script.state().catalog.deletes = Asked::with([
        Err(refused(Code::FailedPrecondition, "MODEL_ALIASED")),
        Ok(DeleteModelResponse::default()),
    ]);
    let output = hangarctl(&script, &["models", "delete", "m"], "").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("delete it with force"));
    let output = hangarctl(
        &script,
        &["models", "rm", "m", "--force", "--etag", "e1"],
        "",
    )
    .await;
    assert_eq!(text(&output.stdout), "m is deleted\n");
    let request = script.state().catalog.deletes.requests[1].clone();
    assert!(request.force && request.etag == "e1");
}

#[bounded::test]
async fn a_switch_is_waited_for_and_its_failure_is_a_failure() {
    for (outcome, code) in [
        (SwitchOutcome::Succeeded, 0),
        (SwitchOutcome::RolledBack, 1),
    ] {
        let over = SwitchInfo {
            reason: "WORKER_DIED".to_owned(),
            ..switch("s1", outcome)
        };
        let script = Script::watches([vec![snapshot("t0", "m", true), switched(1, over)]]);
        script.state().switches = Asked::with([begun()]);
        script.state().infos = Asked::with([info(&[])]);
        let arguments = ["switch", "chat", "m", "--strategy", "load-first", "--wait"];
        let output = hangarctl(&script, &arguments, "").await;
        assert_eq!(output.status.code(), Some(code));
        match outcome {
            SwitchOutcome::Succeeded => {
                assert_eq!(text(&output.stdout), "chat points at m instead of old\n");
            }
            _ => assert!(text(&output.stderr).contains("old, which serves as before")),
        }
    }
}

#[bounded::test]
async fn a_failed_switch_has_its_reason_for_programs() {
    let over = SwitchInfo {
        reason: "WORKER_DIED".to_owned(),
        ..switch("s1", SwitchOutcome::RolledBack)
    };
    let script = Script::watches([vec![snapshot("t0", "m", true)]]);
    script.state().switches = Asked::with([begun()]);
    script.state().infos = Asked::with([info(&[over])]);
    let output = hangarctl(&script, &["switch", "chat", "m", "--wait", "--json"], "").await;
    assert_eq!(json(&output.stderr)["error"]["reason"], "WORKER_DIED");
}

#[bounded::test]
async fn a_session_is_its_id_for_scripts() {
    let script = Script::default();
    let session = Session {
        session_id: "s1".to_owned(),
        ..Default::default()
    };
    script.state().sessions.creates = Asked::with([Ok(CreateSessionResponse {
        session: Some(session),
    })]);
    script.state().sessions.keep_alives =
        Asked::with([Err(refused(Code::NotFound, "SESSION_NOT_FOUND"))]);
    let output = hangarctl(
        &script,
        &["session", "create", "--ttl", "5m", "--name", "nightly"],
        "",
    )
    .await;
    assert_eq!(text(&output.stdout), "s1\n");
    let asked = script.state().sessions.creates.requests[0].clone();
    assert_eq!(asked.ttl.unwrap().seconds, 300);
    assert_eq!(asked.display_name, "nightly");
    let output = hangarctl(&script, &["session", "keepalive", "s1"], "").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("open another one"));
}

#[bounded::test]
async fn info_prints_names_holders_and_switches() {
    let script = Script::default();
    let model = ModelInfo {
        model_id: "m".to_owned(),
        aliases: vec!["chat".to_owned()],
        holders: vec!["s1".to_owned()],
        reload_required: true,
        ..Default::default()
    };
    script.state().info = Some(GetInfoResponse {
        models: vec![model],
        switches: vec![switch("s1", SwitchOutcome::RolledBack)],
        ..Default::default()
    });
    let output = hangarctl(&script, &["info"], "").await;
    let table = text(&output.stdout);
    for part in ["chat", "held, reload required", "ROLLED_BACK"] {
        assert!(table.contains(part), "{part} is not in:\n{table}");
    }
    let output = hangarctl(&script, &["info", "m"], "").await;
    for part in ["Held by", "s1", "Reload"] {
        assert!(text(&output.stdout).contains(part), "{part}");
    }
}
