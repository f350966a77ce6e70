//! What was asked for is kept: through crashes, restarts and clean ends of the server.

mod attempts;
mod comes_back;
mod learned;
mod order;
mod readiness;
mod suspended;

use anyhow::{Context, Result};
use hangar_client::{Client, v1::ModelInfo};

/// Everything that is known about a model.
async fn info(client: &Client, model: &str) -> Result<ModelInfo> {
    let info = client.info().model(model).metrics().send().await?;
    info.models.into_iter().next().context("no model")
}
