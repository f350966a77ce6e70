//! Answers, and what they took.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hangar_client::{Client, GenerateEvent};
use serde::{Deserialize, Deserializer, de::Error};

/// An answer, and what it took as its caller sees it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct TimedAnswer {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: u32,
    /// From the call to the first token.
    #[serde(deserialize_with = "seconds")]
    pub first: Duration,
    /// From the call to the end.
    #[serde(deserialize_with = "seconds")]
    pub whole: Duration,
}

impl TimedAnswer {
    /// A greedy answer of a model through Hangar.
    ///
    /// # Errors
    ///
    /// When there is none, or one without a token.
    pub async fn ask(client: &Client, model: &str, prompt: &str, tokens: u32) -> Result<Self> {
        let began = Instant::now();
        let ask = client.generate(model).prompt(prompt).temperature(0.0);
        let mut stream = ask.max_tokens(tokens).stream().await?;
        let mut first = None;
        let mut text = String::new();
        while let Some(event) = stream.next().await {
            match event? {
                GenerateEvent::Chunk(chunk) => {
                    first.get_or_insert_with(|| began.elapsed());
                    text.push_str(&chunk.text);
                }
                GenerateEvent::Done(done) => {
                    let whole = began.elapsed();
                    return Ok(Self {
                        text,
                        tokens: done.usage.context("no usage")?.completion_tokens,
                        first: first.context("an answer without a piece")?,
                        whole,
                    });
                }
            }
        }
        anyhow::bail!("the answer ended without its end")
    }

    /// Tokens a second, the time to the first one included.
    #[must_use]
    pub fn rate(&self) -> f64 {
        f64::from(self.tokens) / self.whole.as_secs_f64().max(1e-9)
    }

    /// Tokens a second after the first.
    #[must_use]
    pub fn decoding_rate(&self) -> f64 {
        let decoding = self.whole.saturating_sub(self.first);
        f64::from(self.tokens.saturating_sub(1)) / decoding.as_secs_f64().max(1e-9)
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)
}
