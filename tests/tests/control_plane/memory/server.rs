//! A server with room for so many tiny models, and real engines in it.

use std::ops::Deref;

use anyhow::{Context, Result};
use hangar_client::v1::{MemoryHint, ModelInfo, ModelLoad, ModelSpec, ModelState, ModelStatus};
use hangar_tests::{
    fixtures::Fixtures,
    server::{TestServer, TestServerBuilder, spec},
};

/// A server whose models may hold so many times the memory of a tiny model together.
pub(crate) struct MemoryServer {
    pub(crate) server: TestServer,
    /// What a tiny model was seen to hold, in bytes.
    pub(crate) unit: u64,
}

impl Deref for MemoryServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl MemoryServer {
    /// Room for `units` tiny models.
    pub(crate) async fn for_units(units: f64) -> Result<Self> {
        Self::with(units, |options| options).await
    }

    /// As [`Self::for_units`], with other options.
    pub(crate) async fn with(
        units: f64,
        change: impl FnOnce(TestServerBuilder) -> TestServerBuilder,
    ) -> Result<Self> {
        let options = TestServer::real().fixtures(&Fixtures::new()?);
        let unit = measure(&options).await?;
        let limit = format!("{}B", (unit as f64 * units) as u64);
        let options = options.argument("--memory-limit").argument(limit);
        Ok(Self {
            server: change(options).start().await?,
            unit,
        })
    }

    /// A tiny model that is said to need what it was seen to hold.
    pub(crate) fn spec(&self) -> Result<ModelSpec> {
        self.needing(self.unit)
    }

    /// A tiny model that is said to need so much.
    pub(crate) fn needing(&self, bytes: u64) -> Result<ModelSpec> {
        Ok(ModelSpec {
            memory_hint: Some(MemoryHint {
                host_bytes: bytes,
                device_bytes: 0,
            }),
            ..spec(&self.fixtures.llama()?)
        })
    }

    /// Loads tiny models one after another.
    pub(crate) async fn load_all<const N: usize>(
        &self,
        ids: [&str; N],
    ) -> Result<[ModelStatus; N]> {
        let mut loaded = Vec::new();
        for id in ids {
            let load = self.client.load(id).spec(self.spec()?).wait().await?;
            loaded.push(status(load)?);
        }
        loaded.try_into().map_err(|_| anyhow::anyhow!("too few"))
    }

    /// Uses a model, which makes it the one that was used last.
    pub(crate) async fn touch(&self, id: &str) -> Result<String> {
        let answer = self.client.generate(id).prompt("Hello").temperature(0.0);
        Ok(answer.max_tokens(4).text().await?.text)
    }

    /// Everything about a model.
    pub(crate) async fn info(&self, id: &str) -> Result<ModelInfo> {
        let info = self.client.info().model(id).send().await?;
        info.models.into_iter().next().context("no model")
    }

    /// Where a model stands.
    pub(crate) async fn status(&self, id: &str) -> Result<ModelStatus> {
        self.info(id).await?.status.context("a status")
    }

    /// The models that are READY, by id.
    pub(crate) async fn ready(&self) -> Result<Vec<String>> {
        let info = self.client.info().send().await?;
        let ready = |model: &ModelInfo| {
            let status = model.status.as_ref();
            status.is_some_and(|status| status.state() == ModelState::Ready)
        };
        let models = info.models.into_iter().filter(ready);
        Ok(models.map(|model| model.model_id).collect())
    }
}

/// The status of a load that ended well.
pub(crate) fn status(load: ModelLoad) -> Result<ModelStatus> {
    load.status.context("a status")
}

/// What a tiny model holds after an answer, in bytes.
async fn measure(options: &TestServerBuilder) -> Result<u64> {
    let server = options.start().await?;
    let pid = status(server.llama("m").await?)?.worker_pid;
    server.answer("m").await?;
    hangar_tests::processes::host_bytes(pid)
}
