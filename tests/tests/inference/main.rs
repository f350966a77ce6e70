//! InferenceService over real sockets, with real engines on tiny models.

mod answers;
mod callers;
mod constraints;
mod crowds;
mod deadlines;
mod defaults;
mod extremes;
mod grammars;
mod limits;
mod live;
mod logprobs;
mod models;
mod priorities;
mod queue;
mod requests;
mod seeds;
mod stops;
mod templates;
mod tokens;
mod unloads;
mod usage;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hangar_client::{
    Client, Generate,
    v1::{
        ChatMessage, DemoSource, GenerateChunk, GenerateDone, GenerateRequest, ModelInfo,
        ModelSource, ModelSpec, Sampling, generate_response::Event, model_source::Source,
    },
};
use hangar_tests::{
    fixtures::Fixtures,
    hangar::{DEADLINE, Hangar, Options, spec},
};
use tokio::time::timeout;

/// A server with one loaded model, `m`.
struct Served {
    hangar: Hangar,
    client: Client,
    /// Kept for as long as the model may be loaded from it.
    _fixtures: Fixtures,
}

impl Served {
    /// With the tiny Llama, which has a context of 256 tokens and one token for each byte.
    async fn tiny() -> Result<Self> {
        Self::with(|_| ()).await
    }

    /// With the tiny Llama and a changed spec.
    async fn with(change: impl FnOnce(&mut ModelSpec)) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let path = fixtures.llama()?;
        Self::of(fixtures, &path, change).await
    }

    /// With the demo model.
    async fn demo() -> Result<Self> {
        let source = Some(Source::Demo(DemoSource {}));
        Self::with(|spec| spec.source = Some(ModelSource { source })).await
    }

    /// With a context of 16,384 tokens and a changed spec.
    async fn long(change: impl FnOnce(&mut ModelSpec)) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let path = fixtures.long_llama()?;
        Self::of(fixtures, &path, change).await
    }

    /// With the model at this path and a changed spec.
    async fn of(
        fixtures: Fixtures,
        path: &Path,
        change: impl FnOnce(&mut ModelSpec),
    ) -> Result<Self> {
        let options = Options::new(&fixtures);
        Self::start(fixtures, options, path, change).await
    }

    async fn start(
        fixtures: Fixtures,
        options: Options,
        path: &Path,
        change: impl FnOnce(&mut ModelSpec),
    ) -> Result<Self> {
        let hangar = Hangar::start(options).await?;
        let client = hangar.client().await?;
        let mut spec = spec(path);
        change(&mut spec);
        client.load("m").spec(spec).wait().await?;
        Ok(Self {
            hangar,
            client,
            _fixtures: fixtures,
        })
    }

    /// A request that always gets the same answer.
    fn greedy(&self, prompt: &str) -> Generate {
        self.client.generate("m").prompt(prompt).temperature(0.0)
    }

    /// What the server tells of the model.
    async fn model(&self) -> Result<ModelInfo> {
        model(&self.client).await
    }

    /// Process of the model's worker.
    async fn worker(&self) -> Result<u32> {
        Ok(self.model().await?.status.context("a status")?.worker_pid)
    }
}

async fn model(client: &Client) -> Result<ModelInfo> {
    let info = client.info().model("m").metrics().send().await?;
    info.models.into_iter().next().context("the model")
}

/// Asks until so many requests run and so many wait. Arrivals and departures of callers are told by
/// nothing else.
async fn until_crowd(client: &Client, in_flight: u32, queued: u32) -> Result<()> {
    let ask = async {
        loop {
            let metrics = model(client).await?.metrics.context("metrics")?;
            if (metrics.in_flight, metrics.queued) == (in_flight, queued) {
                return anyhow::Ok(());
            }
        }
    };
    let asked = timeout(DEADLINE, ask).await;
    asked.with_context(|| format!("never {in_flight} requests ran and {queued} waited"))?
}

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
