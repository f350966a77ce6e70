//! What is wrong with models, with requests and with paths, and that it harms nothing else.

mod crashes;
mod models;
mod paths;
mod requests;
mod specs;

use std::ops::Deref;

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{ModelInfo, ModelState, ModelStatus},
};
use hangar_tests::{processes, refusals::assert_left_behind, server::TestServer};

/// A server with a sound model that has to go on answering, `sound`.
struct HealthyServer {
    server: TestServer,
    worker: u32,
    says: String,
}

impl Deref for HealthyServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl HealthyServer {
    async fn new() -> Result<Self> {
        let server = TestServer::real().start().await?;
        let load = server.llama("sound").await?;
        Ok(Self {
            worker: load.status.context("a status")?.worker_pid,
            says: says(&server.client).await?,
            server,
        })
    }

    /// Makes sure that nothing but the sound model is left, and that it answers as it did.
    async fn is_unharmed(&self) -> Result<()> {
        anyhow::ensure!(processes::children(self.pid())? == [self.worker]);
        anyhow::ensure!(says(&self.client).await? == self.says);
        Ok(())
    }

    async fn model(&self, id: &str) -> Result<ModelInfo> {
        let info = self.client.info().model(id).send().await?;
        info.models.into_iter().next().context("the model")
    }
}

async fn says(client: &Client) -> Result<String> {
    let answer = client.generate("sound").prompt("Hello").temperature(0.0);
    Ok(answer.max_tokens(20).text().await?.text)
}

/// Makes sure that a status reports the failure of a load that was refused with `refusal`.
#[track_caller]
fn assert_failed(status: &ModelStatus, reason: &str, refusal: &str) {
    let reported = (status.state(), status.reason.as_str());
    assert_eq!(reported, (ModelState::Failed, reason));
    assert_left_behind(&status.message, refusal);
    assert_eq!((status.worker_pid, status.progress), (0, None));
}
