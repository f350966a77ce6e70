//! What is registered, loads and unloads.

use anyhow::{Context, Result};
use hangar_client::{
    inference::{
        ModelRepositoryParameter, RepositoryIndexRequest, RepositoryModelLoadRequest,
        RepositoryModelUnloadRequest, model_repository_parameter::ParameterChoice,
        repository_index_response::ModelIndex,
    },
    v1::{DesiredState, ModelSource, ModelSpec, ModelState, model_source::Source},
};
use hangar_tests::{
    background::Background,
    info,
    scripted::{LoadKind, Script},
    server::TestServer,
};
use tonic::{Code, Status};

use super::{InferenceServer, Stub, code_and_reason, flag, streams::InferStream};

async fn index(stub: &mut Stub, ready: bool) -> Result<Vec<ModelIndex>> {
    let request = RepositoryIndexRequest {
        repository_name: String::new(),
        ready,
    };
    Ok(stub.repository_index(request).await?.into_inner().models)
}

fn entry(name: &str, state: &str, reason: &str) -> ModelIndex {
    ModelIndex {
        name: name.into(),
        version: "1".into(),
        state: state.into(),
        reason: reason.into(),
    }
}

async fn load(stub: &mut Stub, name: &str) -> Result<(), Status> {
    let request = RepositoryModelLoadRequest {
        model_name: name.into(),
        ..RepositoryModelLoadRequest::default()
    };
    stub.repository_model_load(request).await.map(|_| ())
}

async fn unload(stub: &mut Stub, name: &str) -> Result<(), Status> {
    let request = RepositoryModelUnloadRequest {
        model_name: name.into(),
        ..RepositoryModelUnloadRequest::default()
    };
    stub.repository_model_unload(request).await.map(|_| ())
}

#[hangar_tests::test]
async fn a_load_waits_until_the_model_is_ready_and_an_unload_until_it_is_gone() -> Result<()> {
    let server = InferenceServer::start("demo").await?;
    let mut stub = server.stub();
    assert_eq!(index(&mut stub, false).await?, []);
    load(&mut stub, "demo").await?;
    assert_eq!(index(&mut stub, false).await?, [entry("demo", "READY", "")]);
    assert_eq!(index(&mut stub, true).await?, [entry("demo", "READY", "")]);
    let info = server.info().await?;
    assert_eq!(info.desired_state(), DesiredState::Loaded);
    let worker = server.worker().await?;
    load(&mut stub, "demo").await?;
    assert_eq!(server.worker().await?, worker);
    unload(&mut stub, "demo").await?;
    assert!(!hangar_tests::processes::exists(worker));
    let unavailable = entry("demo", "UNAVAILABLE", "unloaded");
    assert_eq!(index(&mut stub, false).await?, [unavailable]);
    assert_eq!(index(&mut stub, true).await?, []);
    assert_eq!(server.info().await?.desired_state(), DesiredState::Unloaded);
    // Nothing to do, as with Triton.
    unload(&mut stub, "demo").await?;
    Ok(())
}

/// As with Triton, whose clients load a model to have its new files served.
#[hangar_tests::test]
async fn a_load_of_a_model_whose_files_have_changed_loads_it_anew() -> Result<()> {
    let server = InferenceServer::long(|_| ()).await?;
    let mut stub = server.stub();
    let worker = server.worker().await?;
    load(&mut stub, "m").await?;
    assert_eq!(server.worker().await?, worker);
    let config = server.fixtures.long_llama()?.join("config.json");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, format!("{text} "))?;
    info::when(&server.client, "m", |info| info.reload_required).await?;
    let reported = index(&mut stub, false).await?.remove(0);
    assert_eq!(reported.state, "READY");
    assert!(reported.reason.contains("config.json"), "{reported:?}");
    load(&mut stub, "m").await?;
    let new = server.worker().await?;
    assert_ne!(new, worker);
    // Looked at for this call, however long ago that was done last.
    std::fs::write(&config, &text)?;
    load(&mut stub, "m").await?;
    assert_ne!(server.worker().await?, new);
    assert_eq!(index(&mut stub, false).await?, [entry("m", "READY", "")]);
    Ok(())
}

#[hangar_tests::test]
async fn an_unload_lets_requests_end() -> Result<()> {
    let server = InferenceServer::long(|_| ()).await?;
    let mut call = InferStream::begin(&server).await?;
    let mut request = server.greedy("Hello", 1500);
    request.inputs[2] = flag("stream", true);
    call.requests.send(request).await?;
    call.next().await?;
    let mut stub = server.stub();
    let unloading = Background::start(async move { unload(&mut stub, "m").await });
    drop(call.requests);
    let mut text = String::new();
    while let Some(response) = call.responses.message().await? {
        assert_eq!(response.error_message, "");
        let response = response.infer_response.context("a response")?;
        text.push_str(&super::text_of(&response, "text_output").context("a text")?);
    }
    unloading.end().await??;
    assert!(text.len() > 1000);
    Ok(())
}

#[hangar_tests::test]
async fn the_index_lists_states_and_reasons() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let mut stub = Stub::new(server.client.transport());
    let held = server.hold(ModelState::Loading).await?;
    assert_eq!(
        index(&mut stub, false).await?,
        [entry("m", "LOADING", "loading")]
    );
    assert_eq!(index(&mut stub, true).await?, []);
    unload(&mut stub, "m").await?;
    drop(held);

    let script = Script::loading(LoadKind::Fail {
        reason: "MODEL_UNUSABLE".into(),
        message: "the weights are missing".into(),
    });
    let missing = server.fixtures.scripted("missing", &script)?;
    let source = Source::Path(missing.to_string_lossy().into_owned());
    let spec = ModelSpec {
        source: Some(ModelSource {
            source: Some(source),
        }),
        ..ModelSpec::default()
    };
    let failing = server.client.load("broken").spec(spec).wait().await;
    assert!(failing.is_err());
    let broken = index(&mut stub, false).await?.remove(0);
    assert_eq!(
        (broken.name.as_str(), broken.state.as_str()),
        ("broken", "UNAVAILABLE")
    );
    assert!(broken.reason.contains("missing"), "{broken:?}");
    let status = load(&mut stub, "broken").await.unwrap_err();
    assert_eq!(
        code_and_reason(&status),
        (Code::FailedPrecondition, "MODEL_UNUSABLE".into())
    );
    Ok(())
}

#[hangar_tests::test]
async fn what_cannot_be_loaded_or_unloaded_is_refused_with_its_reason() -> Result<()> {
    let server = InferenceServer::long(|spec| spec.required = true).await?;
    let mut stub = server.stub();
    let status = load(&mut stub, "nope").await.unwrap_err();
    assert_eq!(
        code_and_reason(&status),
        (Code::NotFound, "MODEL_NOT_FOUND".into())
    );
    let status = unload(&mut stub, "nope").await.unwrap_err();
    assert_eq!(
        code_and_reason(&status),
        (Code::NotFound, "MODEL_NOT_FOUND".into())
    );
    for name in ["", "../x"] {
        let invalid = (Code::InvalidArgument, "INVALID_FIELD".to_owned());
        assert_eq!(
            code_and_reason(&load(&mut stub, name).await.unwrap_err()),
            invalid
        );
        assert_eq!(
            code_and_reason(&unload(&mut stub, name).await.unwrap_err()),
            invalid
        );
    }
    let status = unload(&mut stub, "m").await.unwrap_err();
    assert_eq!(
        code_and_reason(&status),
        (Code::FailedPrecondition, "MODEL_REQUIRED".into())
    );
    Ok(())
}

#[hangar_tests::test]
async fn unknown_parameters_and_repositories_are_refused() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut stub = server.stub();
    let parameter = |choice| ModelRepositoryParameter {
        parameter_choice: Some(choice),
    };
    let text = || parameter(ParameterChoice::StringParam("{}".into()));
    let (unimplemented, invalid) = (
        (Code::Unimplemented, "NOT_IMPLEMENTED"),
        (Code::InvalidArgument, "INVALID_FIELD"),
    );
    for (name, expected) in [
        ("config", unimplemented),
        ("file:1/model.onnx", unimplemented),
        ("unload_dependents", invalid),
        ("other", invalid),
    ] {
        let request = RepositoryModelLoadRequest {
            model_name: "demo".into(),
            parameters: [(name.to_owned(), text())].into(),
            ..RepositoryModelLoadRequest::default()
        };
        let status = stub.repository_model_load(request).await.unwrap_err();
        assert_eq!(
            code_and_reason(&status),
            (expected.0, expected.1.to_owned()),
            "{name}"
        );
    }
    let request = RepositoryIndexRequest {
        repository_name: "models".into(),
        ready: false,
    };
    let status = stub.repository_index(request).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (invalid.0, invalid.1.to_owned()));
    let flag = parameter(ParameterChoice::BoolParam(true));
    let request = RepositoryModelUnloadRequest {
        model_name: "demo".into(),
        parameters: [("unload_dependents".to_owned(), flag)].into(),
        ..RepositoryModelUnloadRequest::default()
    };
    stub.repository_model_unload(request).await?;
    assert_eq!(index(&mut stub, true).await?, []);
    Ok(())
}
