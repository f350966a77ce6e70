//! What the server remembers of what its models did: the last minute and the day.

mod history;
mod minute;
mod report;

use std::{ops::Deref, time::Duration};

use anyhow::{Context, Result};
use hangar_client::v1::ModelInfo;
use hangar_tests::server::{DEADLINE, TestServer, TestServerBuilder, spec};
use tokio::time::{interval, timeout};

/// A server with the demo model, and what was asked of it.
struct UsedServer {
    server: TestServer,
    sent: SentRequests,
}

impl Deref for UsedServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

/// What was asked of a model and answered well.
#[derive(Clone, Copy, Debug, Default)]
struct SentRequests {
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// Requests with an answer of more than one token.
    long: u64,
}

impl UsedServer {
    async fn start(change: impl FnOnce(TestServerBuilder) -> TestServerBuilder) -> Result<Self> {
        let server = change(TestServer::real()).start().await?;
        server.client.load("demo").demo().wait().await?;
        Ok(Self {
            server,
            sent: SentRequests::default(),
        })
    }

    /// Asks the demo model, which answers well.
    async fn ask(&mut self, prompt: &str, max_tokens: u32) -> Result<()> {
        let request = self.client.generate("demo").message("user", prompt);
        let answer = request.max_tokens(max_tokens).temperature(0.0).text();
        let usage = answer.await?.done.usage.context("usage")?;
        self.sent.requests += 1;
        self.sent.prompt_tokens += u64::from(usage.prompt_tokens);
        self.sent.completion_tokens += u64::from(usage.completion_tokens);
        self.sent.long += u64::from(usage.completion_tokens > 1);
        Ok(())
    }

    /// Loads the tiny Llama as `m`.
    async fn load_another(&self) -> Result<()> {
        let path = self.fixtures.long_llama()?;
        self.client.load("m").spec(spec(&path)).wait().await?;
        Ok(())
    }

    /// Waits until something is known about a model that no event shows.
    async fn when<T>(&self, id: &str, is_so: impl Fn(&ModelInfo) -> Option<T>) -> Result<T> {
        let mut ticks = interval(Duration::from_millis(20));
        let check = async {
            loop {
                ticks.tick().await;
                if let Some(found) = is_so(&self.model(id).await?) {
                    return anyhow::Ok(found);
                }
            }
        };
        timeout(DEADLINE, check).await?
    }

    async fn model(&self, id: &str) -> Result<ModelInfo> {
        let call = self.client.info().model(id).metrics().include_history();
        call.send().await?.models.pop().context("a model")
    }
}
