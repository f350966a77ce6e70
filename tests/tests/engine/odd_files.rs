//! Odd but real files of models, each with its one right outcome. The models answer by their last token alone, so that
//! what is right is known.

mod directories;
mod gguf;
mod positions;

use std::path::Path;

use anyhow::Result;
use hangar_client::{Client, v1::ErrorReason};
use hangar_tests::{
    fixtures::{Clock, Fixtures},
    hangar::{Hangar, Options, spec},
    refusals::refusal,
};
use tonic::Code;

/// What goes on after a prompt that ends otherwise.
const HELLO: [&str; 4] = ["h", "i", "!", "<|im_end|>"];

/// A server for odd models.
struct TestServer {
    client: Client,
    fixtures: Fixtures,
    _hangar: Hangar,
}

impl TestServer {
    async fn new() -> Result<Self> {
        let fixtures = Fixtures::new()?;
        let hangar = Hangar::start(Options::new(&fixtures)).await?;
        Ok(Self {
            client: hangar.client().await?,
            fixtures,
            _hangar: hangar,
        })
    }

    /// Writes a model and loads it as `m`.
    async fn load(&self, clock: &Clock) -> Result<()> {
        let path = self.fixtures.directory("odd")?;
        std::fs::remove_dir_all(&path)?;
        clock.write(&path)?;
        self.load_path(&path).await
    }

    /// Loads what is there as `m`, in place of what was.
    async fn load_path(&self, path: &Path) -> Result<()> {
        let load = self.client.load("m").spec(spec(path));
        load.force_reload().wait().await?;
        Ok(())
    }

    /// The words by which what is there is refused.
    async fn refused(&self, path: &Path) -> String {
        let load = self
            .client
            .load("refused")
            .spec(spec(path))
            .force_reload()
            .wait();
        let refusal = refusal(
            load.await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        refusal.message().to_owned()
    }

    /// The answer to a conversation.
    async fn says(&self) -> Result<String> {
        let answer = self
            .client
            .generate("m")
            .message("user", "Hello")
            .temperature(0.0);
        Ok(answer.max_tokens(10).text().await?.text)
    }
}
