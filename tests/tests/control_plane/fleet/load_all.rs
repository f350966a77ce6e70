//! LoadModel of all models.

use std::{fs, time::Duration};

use anyhow::Result;
use hangar_client::{
    convert::to_proto_duration,
    v1::{ErrorReason, LoadModelRequest, MemoryHint, ModelLoad, ModelSpec, ModelState},
};
use hangar_tests::{
    processes,
    refusals::wrong_fields,
    scripted::{LoadKind, LoadScript, ReadyKind, Script},
    server::TestServer,
    time_enough::with_time_enough,
};
use tonic::Code;
use tonic_types::StatusExt;

use super::{all, assert_failed, state};

fn ids(loads: &[ModelLoad]) -> Vec<&str> {
    loads.iter().map(|load| load.model_id.as_str()).collect()
}

#[hangar_tests::test]
async fn load_all_answers_for_each_model() -> Result<()> {
    let server = TestServer::real().start().await?;
    let none = server.stubs.load(all()).await?.loads;
    assert!(none.is_empty(), "nothing is registered");
    server.qwen("a").await?;
    server.llama("b").await?;
    server.client.unload("b").send().await?;
    // Registered, never tried: its failure is the answer to this call.
    let mut watch = server.watch().await?;
    let broken = server.client.load("c").spec(server.broken_spec()?);
    broken.send().await?;
    watch.until("c", ModelState::Failed).await?;
    server.client.unload("c").send().await?;

    let loads = server.stubs.load(all()).await?.loads;
    assert_eq!(ids(&loads), ["a", "b", "c"]);
    assert!(loads[0].already_loaded && loads[0].error.is_none());
    assert!(!loads[1].already_loaded && loads[1].error.is_none());
    for load in &loads[..2] {
        let status = load.status.clone().unwrap_or_default();
        assert_eq!(status.state(), ModelState::Ready);
        assert!(!load.load_id.is_empty());
    }
    let error = loads[2].error.as_ref();
    assert_failed(error, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    let status = loads[2].status.clone().unwrap_or_default();
    assert_eq!(status.state(), ModelState::Failed);
    server.answer("a").await?;
    server.answer("b").await?;
    assert!(server.stubs.is_desired("b").await?);

    let loads = server.stubs.load(all()).await?.loads;
    assert_eq!(ids(&loads), ["a", "b"], "what has FAILED is left out");
    assert!(loads.iter().all(|load| load.already_loaded));
    Ok(())
}

/// A server with room for the models `idle` and `small` together, or for `big` alone; all were loaded once, and are
/// no more.
async fn with_room_for_some() -> Result<TestServer> {
    let options = TestServer::scripted()
        .argument("--memory-limit")
        .argument((512_u64 << 20).to_string());
    let server = options.start().await?;
    let sized = |spec: ModelSpec, mib: u64| ModelSpec {
        memory_hint: Some(MemoryHint {
            host_bytes: mib << 20,
            ..MemoryHint::default()
        }),
        ..spec
    };
    let script = Script {
        load: LoadScript {
            memory_bytes: 200 << 20,
            ..LoadScript::default()
        },
        ..Script::default()
    };
    for model in ["idle", "small"] {
        let (_, spec) = server.script(model, &script)?;
        server.load(model, sized(spec, 200)).await?;
        server.client.unload(model).send().await?;
    }
    let (_, spec) = server.script("big", &Script::default())?;
    let big = server.client.load("big").spec(sized(spec, 400));
    assert!(!big.send().await?.already_loaded);
    server.client.unload("big").send().await?;
    Ok(server)
}

#[hangar_tests::test]
async fn models_of_one_load_all_do_not_evict_each_other() -> Result<()> {
    let server = with_room_for_some().await?;
    let idle = server.client.load("idle").wait().await?;
    let pid = idle.status.unwrap_or_default().worker_pid;

    let loads = server.stubs.load(all()).await?.loads;
    assert_eq!(ids(&loads), ["big", "idle", "small"]);
    let error = loads[0].error.as_ref();
    let status = assert_failed(
        error,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert!(status.get_details_quota_failure().is_some(), "the numbers");
    let idle = server.stubs.info("idle").await?.status.unwrap_or_default();
    assert_eq!((idle.state(), idle.worker_pid), (ModelState::Ready, pid));
    assert_eq!(state(&server, "small").await?, ModelState::Ready);
    // Alone it may have the room of the others.
    server.client.load("big").wait().await?;
    assert_eq!(state(&server, "idle").await?, ModelState::Unloaded);
    Ok(())
}

#[hangar_tests::test]
async fn load_all_without_wait_answers_at_once() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    for model in ["a", "b", "c"] {
        let (_, spec) = server.script(model, &Script::default())?;
        server.load(model, spec).await?;
        server.client.unload(model).send().await?;
    }
    let mut watch = server.watch().await?;
    let begun = LoadModelRequest {
        wait: false,
        ..all()
    };
    let loads = server.stubs.load(begun).await?.loads;
    assert_eq!(ids(&loads), ["a", "b", "c"]);
    for load in &loads {
        assert!(!load.already_loaded && load.error.is_none());
        assert!(load.estimated_load_time.is_some());
        let status = watch.until(&load.model_id, ModelState::Ready).await?;
        assert_eq!(status.load_id, load.load_id);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_load_timeout_counts_for_each_model_of_load_all() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, fine) = server.script("fine", &Script::default())?;
    server.load("fine", fine).await?;
    server.client.unload("fine").send().await?;
    let (_, hangs) = server.script("hangs", &Script::loading(LoadKind::Hang))?;
    server.client.load("hangs").spec(hangs).send().await?;
    server.client.unload("hangs").send().await?;
    with_time_enough(Duration::from_secs(2), async |limit| {
        server.client.unload("hangs").send().await?;
        let hurried = LoadModelRequest {
            timeout: Some(to_proto_duration(limit)),
            ..all()
        };
        let loads = server.stubs.load(hurried).await?.loads;
        assert_eq!(ids(&loads), ["fine", "hangs"]);
        let error = loads[1].error.as_ref();
        assert_failed(error, Code::DeadlineExceeded, ErrorReason::LoadTimeout);
        if loads[0].error.is_some() {
            server.client.unload("fine").send().await?;
            return Ok(None);
        }
        Ok(Some(()))
    })
    .await
}

#[hangar_tests::test]
async fn load_all_takes_no_spec_and_validate_only_loads_nothing() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    let (_, spec) = server.script("m", &Script::default())?;
    server.load("m", spec.clone()).await?;
    server.client.unload("m").send().await?;
    let request = LoadModelRequest {
        spec: Some(spec),
        ..all()
    };
    assert_eq!(wrong_fields(server.stubs.load(request).await), ["spec"]);
    let checked = LoadModelRequest {
        validate_only: true,
        ..all()
    };
    assert!(server.stubs.load(checked).await?.loads.is_empty());
    assert!(processes::children(server.pid())?.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn validate_only_of_all_names_each_load_that_would_be_refused() -> Result<()> {
    let server = TestServer::scripted().checked().start().await?;
    for id in ["fine", "gone", "unusable"] {
        let (_, spec) = server.script(id, &Script::default())?;
        server.load(id, spec).await?;
    }
    server.client.unload("gone").send().await?;
    let (gone, _) = server.script("gone", &Script::default())?;
    fs::remove_dir_all(gone)?;
    let ready = ReadyKind::Failure {
        reason: "MODEL_UNUSABLE".into(),
        message: "No model is in it.".into(),
    };
    let unusable = Script {
        ready,
        ..Script::default()
    };
    server.script("unusable", &unusable)?;
    for (force_reload, expected) in [(false, vec!["gone"]), (true, vec!["gone", "unusable"])] {
        let checked = LoadModelRequest {
            validate_only: true,
            force_reload,
            ..all()
        };
        let refused = server.stubs.load(checked).await?.loads;
        assert_eq!(ids(&refused), expected);
        for load in &refused {
            assert_failed(
                load.error.as_ref(),
                Code::FailedPrecondition,
                ErrorReason::ModelUnusable,
            );
        }
    }
    assert_eq!(processes::children(server.pid())?.len(), 2);
    Ok(())
}
