//! SessionService: models that are held for as long as a client lives.

mod disconnects;
mod ends;
mod holds;
mod lifetimes;
mod secrets;
mod unloads;

use anyhow::Result;
use hangar_client::v1::{LoadModelRequest, ModelLoad, ModelSpec, Session};
use hangar_tests::{server::TestServer, stubs::load_for};

/// Opens a session that nobody has to keep alive.
async fn session(server: &TestServer) -> Result<Session> {
    Ok(server.stubs.create_session(None).await?)
}

/// Loads a model for a session.
async fn load(
    server: &TestServer,
    session: &Session,
    model_id: &str,
    spec: ModelSpec,
) -> Result<ModelLoad> {
    send(server, load_for(session, model_id, spec)).await
}

async fn send(server: &TestServer, request: LoadModelRequest) -> Result<ModelLoad> {
    let answer = server.stubs.load(request).await?;
    Ok(answer.loads.into_iter().next().unwrap_or_default())
}

/// A session among the holders of a model.
fn holder(session: &Session) -> String {
    session.holder.clone()
}

/// Holders in the order in which they are listed.
fn holders(sessions: &[&Session]) -> Vec<String> {
    let mut holders: Vec<_> = sessions.iter().map(|session| holder(session)).collect();
    holders.sort();
    holders
}
