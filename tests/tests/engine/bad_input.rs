//! What is wrong with models, with requests and with paths, and that it harms nothing else.

mod crashes;
mod models;
mod paths;
mod requests;
mod specs;

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{ModelInfo, ModelState, ModelStatus},
};
use hangar_tests::{
    fixtures::Fixtures,
    hangar::{Hangar, Options, spec},
    processes,
};

/// A server with a sound model that has to go on answering, `sound`.
struct Bystander {
    hangar: Hangar,
    client: Client,
    fixtures: Fixtures,
    worker: u32,
    says: String,
}

impl Bystander {
    async fn new() -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let hangar = Hangar::start(Options::new(&fixtures)).await?;
        let client = hangar.client().await?;
        let path = fixtures.llama()?;
        let load = client.load("sound").spec(spec(&path)).wait().await?;
        let worker = load.status.context("a status")?.worker_pid;
        let says = says(&client).await?;
        Ok(Self {
            hangar,
            client,
            fixtures,
            worker,
            says,
        })
    }

    /// Makes sure that nothing but the sound model is left, and that it answers as it did.
    async fn is_unharmed(&self) -> Result<()> {
        anyhow::ensure!(processes::children(self.hangar.pid())? == [self.worker]);
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

/// Makes sure that a refusal, which goes on with what was left behind, begins with the failure's `message`.
#[track_caller]
fn assert_told(message: &str, refusal: &str) {
    let rest = refusal.strip_prefix(message);
    assert!(
        rest.is_some_and(|rest| rest.contains("stays registered")),
        "{message:?}: {refusal:?}"
    );
}

/// Makes sure that a status tells of a failure.
#[track_caller]
fn assert_failed(status: &ModelStatus, reason: &str, message: &str) {
    let reported = (status.state(), status.reason.as_str());
    assert_eq!(reported, (ModelState::Failed, reason));
    assert_told(&status.message, message);
    assert_eq!((status.worker_pid, status.progress), (0, None));
}
