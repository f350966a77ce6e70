//! LoRA adapters, with real engines: the demo model's and random ones.

mod demo;
mod files;
mod merging;
mod restarts;
mod specs;

use std::path::Path;

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{DemoSource, LoraAdapter, ModelInfo, ModelSource, ModelSpec, model_source::Source},
};

/// An adapter in a directory.
fn adapter(name: &str, path: &Path) -> LoraAdapter {
    LoraAdapter {
        name: name.to_owned(),
        path: path.to_string_lossy().into_owned(),
        demo: None,
    }
}

/// The adapter that is built in.
fn radio() -> LoraAdapter {
    LoraAdapter {
        name: "radio".to_owned(),
        demo: Some(DemoSource {}),
        ..LoraAdapter::default()
    }
}

/// The demo model with these adapters.
fn demo(adapters: Vec<LoraAdapter>) -> ModelSpec {
    ModelSpec {
        source: Some(ModelSource {
            source: Some(Source::Demo(DemoSource {})),
        }),
        adapters,
        ..ModelSpec::default()
    }
}

/// A model with one adapter.
fn with_adapter(model: &Path, path: &Path) -> ModelSpec {
    ModelSpec {
        adapters: vec![adapter("one", path)],
        ..hangar_tests::server::spec(model)
    }
}

async fn info(client: &Client, model: &str) -> Result<ModelInfo> {
    let info = client.info().model(model).send().await?;
    info.models.into_iter().next().context("no model")
}

/// The greedy answer to a question.
async fn answer_to(client: &Client, model: &str, question: &str) -> Result<String> {
    let request = client.generate(model).message("user", question);
    Ok(request.temperature(0.0).max_tokens(128).text().await?.text)
}

/// What a model with random weights goes on with.
async fn generate_text(client: &Client, model: &str) -> Result<String> {
    let request = client.generate(model).prompt("Hello").temperature(0.0);
    Ok(request.max_tokens(24).text().await?.text)
}
