//! Loads and unloads that make something to watch.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{LoadModelRequest, load_model_request::Target},
};
use hangar_tests::{fixtures::Fixtures, hangar::spec};
use tonic::Code;

/// Transitions of a load that fails at once.
pub(crate) const FAILED_LOAD: usize = 3;

/// Transitions of a load and its unload.
pub(crate) const LOAD_AND_UNLOAD: usize = 8;

/// A path at which there is nothing.
pub(crate) fn nowhere(fixtures: &Fixtures) -> PathBuf {
    fixtures.root().join("nowhere")
}

/// As [`nowhere`], with a name of some 3,000 bytes, which the model's status will tell.
pub(crate) fn nowhere_long(fixtures: &Fixtures) -> PathBuf {
    (0..12).fold(nowhere(fixtures), |path, _| path.join("x".repeat(250)))
}

/// Loads a model from a path at which there is nothing: it is PENDING, STARTING and FAILED, without a
/// process.
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

/// Loads a model and unloads it.
pub(crate) async fn load_and_unload(client: &Client, model: &str, path: &Path) -> Result<()> {
    client.load(model).spec(spec(path)).wait().await?;
    client.unload(model).send().await?;
    Ok(())
}
