//! Calls for all models: each item tells how it fared, with everything that the server said.

use std::collections::HashMap;

use hangar_client::{
    Error,
    v1::{ErrorReason, LoadModelResponse, ModelLoad, ModelState, ModelUnload, UnloadModelResponse},
};
use prost::Message;
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    hangarctl::{hangarctl, text},
    script::{Script, load},
};

/// The error of an item that does not fit.
fn too_big() -> tonic_types::Status {
    let mut details =
        ErrorDetails::with_error_info("INSUFFICIENT_MEMORY", "hangar.v1", HashMap::new());
    details.add_quota_failure_violation("host memory", "2 GB needed, 1 GB free");
    let status = Status::with_error_details(Code::ResourceExhausted, "big does not fit", details);
    tonic_types::Status::decode(status.details()).unwrap()
}

fn loads() -> LoadModelResponse {
    let big = ModelLoad {
        model_id: "big".to_owned(),
        error: Some(too_big()),
        ..Default::default()
    };
    LoadModelResponse {
        loads: vec![load(ModelState::Ready), big],
    }
}

#[bounded::test]
async fn an_item_that_failed_is_an_error_with_its_details() {
    let script = Script::default();
    script.state().loads = [Ok(loads())].into();
    script.state().unload = Some(UnloadModelResponse {
        unloads: vec![ModelUnload {
            error: Some(too_big()),
            ..Default::default()
        }],
        ..Default::default()
    });
    let (client, _tasks) = script.serve().await;
    let mut results = client.load_all().wait().await.unwrap().loads.into_iter();
    let ready = results.next().unwrap().into_result().unwrap();
    assert_eq!(ready.model_id, "m");
    let error = results.next().unwrap().into_result().unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(error.reason(), Some(ErrorReason::InsufficientMemory));
    assert_eq!(error.details().unwrap().quotas.len(), 1);

    let mut response = client.unload_all().send().await.unwrap();
    let error = response.unloads.remove(0).into_result().unwrap_err();
    assert!(matches!(error, Error::Refused(_)));
}

#[bounded::test]
async fn the_command_line_prints_each_item_and_fails_when_one_did() {
    let script = Script::default();
    script.state().loads = [Ok(loads()), Ok(loads())].into();
    let output = hangarctl(&script, &["load", "--all"], "").await;
    let table = text(&output.stdout);
    for part in [
        "READY",
        "big",
        "2 GB needed, 1 GB free",
        "Unload another model",
    ] {
        assert!(table.contains(part), "{part} is not in:\n{table}");
    }
    assert_eq!(text(&output.stderr), "error: 1 of 2 loads failed\n");
    assert_eq!(output.status.code(), Some(1));

    let output = hangarctl(&script, &["load", "--all", "--json"], "").await;
    let response: Value = serde_json::from_slice(&output.stdout).unwrap();
    let details = response["loads"][1]["error"]["details"].as_array().unwrap();
    let has_reason = details
        .iter()
        .any(|detail| detail["reason"] == "INSUFFICIENT_MEMORY");
    assert!(has_reason, "{details:?}");
    assert_eq!(output.status.code(), Some(1));
}
