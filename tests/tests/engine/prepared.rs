//! In-situ quantization and prepared weights, with real engines on tiny models.

mod capacity;
mod damage;
mod hits;
mod stops;
mod types;

use std::{
    collections::BTreeSet,
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use hangar_client::{
    GenerateEvent,
    v1::{CacheInfo, ModelInfo, ModelMetadata, ModelSpec},
};
use hangar_tests::{
    info,
    server::{DEADLINE, TestServer, TestServerBuilder, spec},
};
use tokio::time::{interval, timeout};

/// A server with models whose weights are quantized.
struct PreparedServer {
    server: TestServer,
    /// The server's data, which outlives it.
    data: tempfile::TempDir,
}

impl Deref for PreparedServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl PreparedServer {
    async fn new() -> Result<Self> {
        Self::with(|options| options).await
    }

    async fn with(change: impl FnOnce(TestServerBuilder) -> TestServerBuilder) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let options = TestServer::real().data_in(data.path());
        Ok(Self {
            server: change(options).start().await?,
            data,
        })
    }

    /// The server, ended and started anew.
    async fn restarted(self) -> Result<Self> {
        let Self { server, data } = self;
        let options = TestServer::real()
            .fixtures(&server.fixtures)
            .data_in(data.path());
        server.terminate().await?;
        Ok(Self {
            server: options.start().await?,
            data,
        })
    }

    /// A model with rows that every type can be made of.
    fn model(&self, quantization: &str) -> Result<ModelSpec> {
        Ok(quantized(&self.fixtures.wide_llama()?, quantization))
    }

    /// Loads the model `m`, unloads it, and gives what was known of it and what it said.
    async fn turn(&self, spec: &ModelSpec) -> Result<(ModelMetadata, Vec<u32>)> {
        self.load(spec).await?;
        let turn = (self.metadata().await?, self.answer().await?);
        self.client.unload("m").send().await?;
        Ok(turn)
    }

    /// As [`Self::turn`] of a model for which there is no entry, until there is one.
    async fn first_turn(&self, spec: &ModelSpec) -> Result<Vec<u32>> {
        let before = self.cache().await?.entries;
        self.load(spec).await?;
        assert!(!self.metadata().await?.prepared);
        let answer = self.answer().await?;
        info::cache_when(&self.client, |cache| cache.entries > before).await?;
        self.client.unload("m").send().await?;
        Ok(answer)
    }

    async fn load(&self, spec: &ModelSpec) -> Result<()> {
        let load = self.client.load("m").spec(spec.clone()).force_reload();
        load.wait().await?;
        Ok(())
    }

    /// Tokens of a greedy answer.
    async fn answer(&self) -> Result<Vec<u32>> {
        let question = self.client.generate("m").prompt("What is it?");
        let question = question.with(|request| request.ignore_eos = true);
        let mut stream = question.temperature(0.0).max_tokens(16).stream().await?;
        let mut tokens = Vec::new();
        while let Some(event) = stream.next().await {
            if let GenerateEvent::Chunk(chunk) = event? {
                tokens.extend(chunk.token_ids);
            }
        }
        assert_eq!(tokens.len(), 16);
        Ok(tokens)
    }

    async fn metadata(&self) -> Result<ModelMetadata> {
        self.info().await?.metadata.context("metadata")
    }

    async fn info(&self) -> Result<ModelInfo> {
        let info = self.client.info().model("m").send().await?;
        info.models.into_iter().next().context("the model")
    }

    async fn cache(&self) -> Result<CacheInfo> {
        info::cache(&self.client).await
    }

    fn directory(&self) -> PathBuf {
        self.data.path().join("cache/prepared")
    }

    /// Names in the cache's directory.
    fn names(&self) -> Result<BTreeSet<String>> {
        let names = fs::read_dir(self.directory())?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    /// Looks until the names are such as no event shows, and none is of something half-written.
    async fn names_when(&self, is_so: impl Fn(&BTreeSet<String>) -> bool) -> Result<()> {
        let mut ticks = interval(Duration::from_millis(10));
        let check = async {
            loop {
                ticks.tick().await;
                let names = self.names()?;
                if names.iter().all(|name| !name.contains('.')) && is_so(&names) {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(DEADLINE, check)
            .await
            .context("the names are not so")?
    }

    /// The only entry.
    fn entry(&self) -> Result<PathBuf> {
        let names = self.names()?;
        assert_eq!(names.len(), 1, "{names:?}");
        let name = names.first().context("no entry")?;
        Ok(self.directory().join(name))
    }
}

/// A spec of the model at this path, quantized to that.
fn quantized(path: &Path, quantization: &str) -> ModelSpec {
    ModelSpec {
        quantization: quantization.to_owned(),
        ..spec(path)
    }
}
