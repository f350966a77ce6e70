//! Messages with images, over real sockets, with real engines on a tiny model that looks at images.

mod answers;
mod audio;
mod bad_images;
mod command;
mod contexts;
mod disconnects;
mod models;
mod parts;
mod sizes;

use anyhow::Result;
use hangar_client::{Completion, Error, Generate, GenerateEvent, v1::content_part::Part};
use hangar_tests::{images, server::TestServer};
use image::ImageFormat;

/// What is asked of models that look at images.
trait VisionServer {
    /// A request that always gets the same answer of twelve tokens.
    fn asking(&self) -> Generate;

    /// The answer to a message of these parts.
    async fn answer_to(&self, parts: impl IntoIterator<Item = Part>) -> Result<Completion, Error>;

    /// Log probabilities of the answer's tokens, which show more than its text.
    async fn likelihoods(&self, parts: impl IntoIterator<Item = Part>) -> Result<Vec<f32>>;
}

impl VisionServer for TestServer {
    fn asking(&self) -> Generate {
        let generate = self.client.generate("m").max_tokens(12);
        generate.temperature(0.0)
    }

    async fn answer_to(&self, parts: impl IntoIterator<Item = Part>) -> Result<Completion, Error> {
        self.asking().parts("user", parts).text().await
    }

    async fn likelihoods(&self, parts: impl IntoIterator<Item = Part>) -> Result<Vec<f32>> {
        let request = self.asking().parts("user", parts).logprobs(0);
        let mut stream = request.stream().await?;
        let mut likelihoods = Vec::new();
        while let Some(event) = stream.next().await {
            if let GenerateEvent::Chunk(chunk) = event? {
                likelihoods.extend(chunk.logprobs.iter().map(|token| token.logprob));
            }
        }
        Ok(likelihoods)
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
