//! A client that holds a model for as long as it lives: `session-holder URL MODEL_ID TTL_MS`.
//!
//! It opens a session, loads the model, which has to be registered, prints the session's id and keeps the
//! session alive until it is killed.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{Client, v1::LoadModelRequest};
use hangar_tests::stubs::{Stubs, load_again};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("URL MODEL_ID TTL_MS");
    let (url, model_id) = (next()?, next()?);
    let ttl = Duration::from_millis(next()?.parse()?);
    let stubs = Stubs::new(&Client::connect(url).await?);
    let session_id = stubs.create_session(Some(ttl)).await?.session_id;
    let load = LoadModelRequest {
        session_id: session_id.clone(),
        wait: false,
        ..load_again(&model_id)
    };
    stubs.load(load).await?;
    println!("{session_id}");
    let mut ticks = tokio::time::interval(ttl / 10);
    loop {
        ticks.tick().await;
        stubs.keep_alive(&session_id).await?;
    }
}
