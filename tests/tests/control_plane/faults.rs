//! Faults of workers: each is noticed, reported, and stays that model's fault.

mod answers;
mod calls_without_engine;
mod disconnects;
mod file_systems;
mod floods;
mod handshakes;
mod hangs;
mod inspections;
mod kills;
mod liveness;
mod loads;
mod model_tasks;
mod neighbours;
mod panics;
mod prompts;
mod restarts;
mod slow;
mod stops;

use anyhow::{Context, Result};
use hangar_client::{GenerateEvent, GenerateStream};

/// The text of the next chunk.
async fn chunk(answer: &mut GenerateStream) -> Result<String> {
    match answer.next().await.context("the answer ended")?? {
        GenerateEvent::Chunk(chunk) => Ok(chunk.text),
        GenerateEvent::Done(done) => anyhow::bail!("the answer ended: {done:?}"),
    }
}

/// What ends an answer that is to break off, whatever comes before.
async fn end(answer: &mut GenerateStream) -> Result<(), hangar_client::Error> {
    while let Some(event) = answer.next().await {
        event?;
    }
    Ok(())
}
