//! Messages with images, over real sockets, with real engines on a tiny model that looks at images.

mod answers;
mod audio;
mod bad_images;
mod callers;
mod command;
mod contexts;
mod models;
mod parts;
mod sizes;

use std::path::Path;

use anyhow::{Context, Result};
use hangar_client::{
    Client, Completion, Error, Generate, GenerateEvent,
    v1::{ModelInfo, ModelSpec, content_part::Part},
};
use hangar_tests::{
    fixtures::Fixtures,
    hangar::{Hangar, Options, spec},
    images,
};
use image::ImageFormat;

/// A server with one loaded model, `m`.
struct Served {
    hangar: Hangar,
    client: Client,
    fixtures: Fixtures,
}

impl Served {
    /// With the tiny Gemma 3, whose context has 256 tokens, one for each byte.
    async fn gemma() -> Result<Self> {
        Self::with(|_| ()).await
    }

    /// With the tiny Gemma 3 and a changed spec.
    async fn with(change: impl FnOnce(&mut ModelSpec)) -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let path = fixtures.gemma3()?;
        Self::of(fixtures, &path, change).await
    }

    /// With the model at this path and a changed spec.
    async fn of(
        fixtures: Fixtures,
        path: &Path,
        change: impl FnOnce(&mut ModelSpec),
    ) -> Result<Self> {
        let hangar = Hangar::start(Options::new(&fixtures)).await?;
        let client = hangar.client().await?;
        let mut spec = spec(path);
        change(&mut spec);
        client.load("m").spec(spec).wait().await?;
        Ok(Self {
            hangar,
            client,
            fixtures,
        })
    }

    /// A request that always gets the same answer of twelve tokens.
    fn greedy(&self) -> Generate {
        let generate = self.client.generate("m").max_tokens(12);
        generate.temperature(0.0)
    }

    /// The answer to a message of these parts.
    async fn answer(&self, parts: impl IntoIterator<Item = Part>) -> Result<Completion, Error> {
        self.greedy().parts("user", parts).text().await
    }

    /// Log probabilities of the answer's tokens, which tell more than its text.
    async fn likelihoods(&self, parts: impl IntoIterator<Item = Part>) -> Result<Vec<f32>> {
        let request = self.greedy().parts("user", parts).logprobs(0);
        let mut stream = request.stream().await?;
        let mut likelihoods = Vec::new();
        while let Some(event) = stream.next().await {
            if let GenerateEvent::Chunk(chunk) = event? {
                likelihoods.extend(chunk.logprobs.iter().map(|token| token.logprob));
            }
        }
        Ok(likelihoods)
    }

    /// What the server tells of the model.
    async fn model(&self) -> Result<ModelInfo> {
        let info = self.client.info().model("m").metrics().send().await?;
        info.models.into_iter().next().context("the model")
    }

    /// Process of the model's worker.
    async fn worker(&self) -> Result<u32> {
        Ok(self.model().await?.status.context("a status")?.worker_pid)
    }
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

/// A pattern as a part; another one for each `seed`.
fn picture(seed: u8) -> Result<Part> {
    let png = images::encoded(&images::pattern(seed, 48, 40), ImageFormat::Png)?;
    Ok(Part::Image(png.into()))
}

/// Tokens of the prompt.
fn prompt_tokens(completion: &Completion) -> u32 {
    completion.done.usage.unwrap_or_default().prompt_tokens
}
