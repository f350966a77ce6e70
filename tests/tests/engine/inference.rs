//! InferenceService over real sockets, with real engines on tiny models.

mod answers;
mod constraints;
mod deadlines;
mod defaults;
mod disconnects;
mod extremes;
mod given_up;
mod grammars;
mod limits;
mod live;
mod logprobs;
mod many_callers;
mod memory;
mod models;
mod pace;
mod priorities;
mod queue;
mod requests;
mod seeds;
mod single_tokens;
mod stops;
mod templates;
mod thinking;
mod tokens;
mod tools;
mod unloads;
mod usage;

use std::path::PathBuf;

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{
        ChatMessage, GenerateChunk, GenerateDone, GenerateRequest, Sampling,
        generate_response::Event,
    },
};
use hangar_tests::fixtures::Fixtures;

fn greedy_request(prompt: &str, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        model_id: "m".into(),
        prompt: prompt.into(),
        max_tokens,
        sampling: Some(Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        }),
        ..GenerateRequest::default()
    }
}

/// Everything that the server sends for a request, to the end of the stream.
async fn responses(
    client: &Client,
    request: GenerateRequest,
) -> Result<(Vec<GenerateChunk>, GenerateDone)> {
    let mut stream = client.inference_service().generate(request).await?;
    let stream = stream.get_mut();
    let (mut chunks, mut done) = (Vec::new(), None);
    while let Some(response) = stream.message().await? {
        anyhow::ensure!(done.is_none(), "something came after the end: {response:?}");
        match response.event {
            Some(Event::Chunk(chunk)) => chunks.push(chunk),
            Some(Event::Done(end)) => done = Some(end),
            None => anyhow::bail!("an empty response"),
        }
    }
    Ok((chunks, done.context("no end")?))
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage {
        role: role.into(),
        content: content.into(),
        ..ChatMessage::default()
    }
}

fn text_of(chunks: &[GenerateChunk]) -> String {
    chunks.iter().map(|chunk| chunk.text.as_str()).collect()
}

fn tokens_of(chunks: &[GenerateChunk]) -> Vec<u32> {
    chunks
        .iter()
        .flat_map(|chunk| chunk.token_ids.iter().copied())
        .collect()
}

/// A copy of the tiny Llama with a changed JSON file.
fn changed(
    fixtures: &Fixtures,
    file: &str,
    change: impl FnOnce(&mut serde_json::Value),
) -> Result<PathBuf> {
    let directory = fixtures.directory("changed")?;
    for entry in std::fs::read_dir(fixtures.llama()?)? {
        let entry = entry?;
        std::fs::copy(entry.path(), directory.join(entry.file_name()))?;
    }
    let path = directory.join(file);
    let mut json = serde_json::from_slice(&std::fs::read(&path)?)?;
    change(&mut json);
    std::fs::write(&path, serde_json::to_vec(&json)?)?;
    Ok(directory)
}
