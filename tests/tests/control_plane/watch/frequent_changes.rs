//! Loads and unloads that make something to watch.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{LoadModelRequest, load_model_request::Target},
};
use hangar_tests::{
    fixtures::Fixtures,
    scripted::{ReadyKind, Script},
    server::spec,
};
use tonic::Code;

/// Transitions of a load that fails at once.
pub(crate) const FAILED_LOAD: usize = 3;

/// Models of [`fail_many`].
pub(crate) const MODELS: usize = 900;

/// Transitions of a load and its unload.
pub(crate) const LOAD_AND_UNLOAD: usize = 8;

/// A model that its worker finds unusable.
pub(crate) fn unusable(fixtures: &Fixtures) -> Result<PathBuf> {
    unusable_because(fixtures, "unusable")
}

/// As [`unusable`], with some 3,000 bytes that the model's status will carry.
pub(crate) fn unusable_at_length(fixtures: &Fixtures) -> Result<PathBuf> {
    unusable_because(fixtures, &"x".repeat(3010))
}

fn unusable_because(fixtures: &Fixtures, message: &str) -> Result<PathBuf> {
    let script = Script {
        ready: ReadyKind::Failure {
            reason: "MODEL_UNUSABLE".to_owned(),
            message: message.to_owned(),
        },
        ..Script::default()
    };
    fixtures.scripted("unusable", &script)
}

/// Loads an unusable model: it is PENDING, STARTING and FAILED.
pub(crate) async fn fail(client: &Client, model: &str, path: &Path) -> Result<()> {
    let request = LoadModelRequest {
        target: Some(Target::ModelId(model.to_owned())),
        spec: Some(spec(path)),
        wait: true,
        ..LoadModelRequest::default()
    };
    let answer = client.model_service().load_model(request).await;
    let status = answer.err().context("the load succeeded")?;
    anyhow::ensure!(status.code() == Code::FailedPrecondition, "{status:?}");
    Ok(())
}

/// Loads many unusable models: `model-000` and so on.
pub(crate) async fn fail_many(client: &Client, path: &Path) -> Result<()> {
    for n in 0..MODELS {
        fail(client, &format!("model-{n:03}"), path).await?;
    }
    Ok(())
}

/// Loads a model and unloads it.
pub(crate) async fn load_and_unload(client: &Client, model: &str, path: &Path) -> Result<()> {
    client.load(model).spec(spec(path)).wait().await?;
    client.unload(model).send().await?;
    Ok(())
}
