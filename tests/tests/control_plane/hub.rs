//! Models that are downloaded from a hub, and everything that a hub can do wrong.

mod cached;
mod downloads;
mod faults;
mod interruptions;
mod refusals;
mod reloads;

use std::{fs, ops::Deref, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{ModelInfo, ModelStatus},
};
use hangar_tests::{
    fixtures::Fixtures,
    hub::TestHub,
    processes,
    server::{DEADLINE, TestServer, TestServerBuilder},
};

/// The repository that most tests load.
const REPOSITORY: &str = "tiny/llama";

/// Its weights.
const WEIGHTS: &str = "model.safetensors";

/// A server, and a hub with a tiny model that it may load.
struct HubServer {
    server: TestServer,
    hub: TestHub,
    commit: String,
}

impl Deref for HubServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl HubServer {
    async fn new() -> Result<Self> {
        Self::with(|options| options).await
    }

    async fn with(change: impl FnOnce(TestServerBuilder) -> TestServerBuilder) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let hub = TestHub::start().await?;
        let commit = hub.add(REPOSITORY, &fixtures.llama()?)?;
        let options = TestServer::real().fixtures(&fixtures).hub(&hub);
        Ok(Self {
            server: change(options).start().await?,
            hub,
            commit,
        })
    }

    async fn model(&self) -> Result<ModelInfo> {
        let info = self.client.info().model("m").send().await?;
        info.models.into_iter().next().context("the model")
    }

    async fn status(&self) -> Result<ModelStatus> {
        self.model().await?.status.context("a status")
    }

    /// Size of the weights.
    fn weights(&self) -> Result<u64> {
        Ok(fs::metadata(self.fixtures.llama()?.join(WEIGHTS))?.len())
    }

    fn cache(&self) -> PathBuf {
        self.data_dir().join("hub")
    }
}

/// Directory of the contents of [`REPOSITORY`] in a cache.
fn blobs(cache: &std::path::Path) -> PathBuf {
    cache.join("models--tiny--llama/blobs")
}

/// Sizes of the files in a cache that are not whole.
fn parts(cache: &std::path::Path) -> Vec<u64> {
    let entries = fs::read_dir(blobs(cache)).into_iter().flatten().flatten();
    let parts = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "incomplete"));
    parts
        .filter_map(|part| Some(part.metadata().ok()?.len()))
        .collect()
}

/// Waits until a cache has exactly one file that is not whole, with so many bytes.
async fn until_part(cache: &std::path::Path, bytes: u64) -> Result<()> {
    let what = format!("a part of {bytes} bytes in {}", cache.display());
    processes::eventually(&what, DEADLINE, || (parts(cache) == [bytes]).then_some(())).await
}

/// A greedy answer.
async fn says(client: &Client, model: &str) -> Result<String> {
    let answer = client.generate(model).prompt("Hello").temperature(0.0);
    Ok(answer.max_tokens(20).text().await?.text)
}

/// A short stall time-out, which a hub that is only slow does not reach.
fn impatient(options: TestServerBuilder) -> TestServerBuilder {
    options.time("--hub-stall-timeout", Duration::from_secs(3))
}
