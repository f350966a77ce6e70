//! Loading and unloading: what is promised of them when nothing goes wrong.

mod failed_loads;
mod files;
mod history;
mod info;
mod loads;
mod memory;
mod models;
mod refusals;
mod reload_checks;
mod reload_queue;
mod reloads;
mod repeats;
mod timeouts;
mod unload_cancels;
mod unload_drains;
mod unloads;

use anyhow::Result;
use hangar_client::{Client, v1::ModelSpec};
use hangar_tests::server::TestServer;

/// The spec of the server's model, changed in a way that the scripted worker does not care about.
fn other_spec(server: &TestServer) -> ModelSpec {
    ModelSpec {
        context_length: 77,
        ..server.spec()
    }
}

/// A greedy answer of 40 tokens.
async fn greedy(client: &Client, model: &str, prompt: &str) -> Result<String> {
    let answer = client.generate(model).prompt(prompt).temperature(0.0);
    Ok(answer.max_tokens(40).text().await?.text)
}
