//! Odd but real files of models, each with its one right outcome. The models answer by their last token alone, so that
//! what is right is known.

mod directories;
mod generation;
mod gguf;
mod positions;
mod texts;

use std::{ops::Deref, path::Path};

use anyhow::Result;
use hangar_client::v1::ErrorReason;
use hangar_tests::{
    fixtures::SuccessorModel,
    refusals::refusal,
    server::{TestServer, spec},
};
use tonic::Code;

/// What goes on after a prompt that ends otherwise.
const HELLO: [&str; 4] = ["h", "i", "!", "<|im_end|>"];

/// A server for odd models.
struct OddServer {
    server: TestServer,
}

impl Deref for OddServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl OddServer {
    async fn new() -> Result<Self> {
        Ok(Self {
            server: TestServer::real().start().await?,
        })
    }

    /// Writes a model and loads it as `m`.
    async fn load(&self, successor: &SuccessorModel) -> Result<()> {
        let path = self.fixtures.directory("odd")?;
        std::fs::remove_dir_all(&path)?;
        successor.write(&path)?;
        self.load_path(&path).await
    }

    /// Loads what is there as `m`, in place of what was.
    async fn load_path(&self, path: &Path) -> Result<()> {
        let load = self.client.load("m").spec(spec(path));
        load.force_reload().wait().await?;
        Ok(())
    }

    /// Makes sure that what is there is refused, and that the refusal names all of `parts`.
    async fn assert_refused(&self, path: &Path, parts: &[&str]) {
        let load = self.client.load("refused").spec(spec(path));
        let refusal = refusal(
            load.force_reload().wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        for part in parts {
            assert!(refusal.message().contains(part), "{part}: {refusal}");
        }
    }

    /// Writes a model, loads it as `m` and makes sure that it answers so.
    async fn assert_says(&self, successor: &SuccessorModel, answer: &str) -> Result<()> {
        self.load(successor).await?;
        assert_eq!(self.says().await?, answer);
        Ok(())
    }

    /// Tokens of a text, with those that a prompt has around it.
    async fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let call = self.client.tokenize("m", text).add_special_tokens();
        Ok(call.send().await?)
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
