//! One load of the model: how long it takes, what it holds, what it answers, and its unload.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hangar_client::{
    Client, GenerateEvent,
    convert::to_duration,
    v1::{ModelSpec, ModelState, UnloadVerification},
};
use hangar_tests::{info, processes, server::TestServer};
use tokio::time::interval;

use super::reference::ReferenceAnswer;

/// By how much a log probability may differ from the reference's.
const EXACT: f32 = 1e-3;

/// What a load came to. Memory is in bytes.
#[derive(Debug)]
pub(super) struct Measured {
    /// Whether the weights came prepared.
    pub(super) prepared: bool,
    /// From the call until the engine was built.
    pub(super) built: Duration,
    /// From the call until READY.
    pub(super) ready: Duration,
    /// Most that the worker held on the way there.
    pub(super) most: u64,
    /// What it held then.
    pub(super) held: u64,
    pub(super) answers: Vec<Answer>,
    /// How long the unload took.
    pub(super) unload: Duration,
    /// What it gave back.
    pub(super) freed: u64,
}

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    text: String,
    /// From its start to its first token.
    pub(super) first: Duration,
    /// Tokens a second from there on.
    pub(super) rate: f64,
}

impl Measured {
    /// Loads the model, asks it everything, and unloads it.
    pub(super) async fn of(
        hangar: &TestServer,
        id: &str,
        spec: &ModelSpec,
        references: &[ReferenceAnswer],
    ) -> Result<Self> {
        let client = &hangar.client;
        let entries = info::cache(client).await?.entries;
        let mut transitions = hangar.follow(id).await?;
        let began = Instant::now();
        client.load(id).spec(spec.clone()).send().await?;
        let worker = transitions.until(ModelState::Loading).await?.worker_pid;
        let to_ready = async {
            transitions.until(ModelState::Warming).await?;
            let built = began.elapsed();
            transitions.until(ModelState::Ready).await?;
            anyhow::Ok((built, began.elapsed()))
        };
        let (most, (built, ready)) = most_until(worker, to_ready).await?;
        let held = processes::host_bytes(worker)?;
        let metadata = info::model(client, id).await?.metadata;
        let prepared = metadata.context("metadata")?.prepared;
        let mut answers = Vec::new();
        for reference in references {
            answers.push(Answer::ask(client, id, reference).await?);
        }
        // Prepared weights are written behind the load.
        if !spec.quantization.is_empty() && !prepared {
            info::cache_when(client, |cache| cache.entries > entries).await?;
        }
        let (unload, freed) = unload(client, id, worker).await?;
        Ok(Self {
            prepared,
            built,
            ready,
            most,
            held,
            answers,
            unload,
            freed,
        })
    }
}

impl Answer {
    /// Asks for the most likely answer to a prompt, as long as the reference's.
    async fn ask(client: &Client, id: &str, reference: &ReferenceAnswer) -> Result<Self> {
        let prompt = client.tokenize(id, &reference.prompt);
        let prompt = prompt.add_special_tokens().send().await?;
        ensure!(prompt == reference.prompt_tokens, "{prompt:?}");
        let request = client.generate(id).prompt(&reference.prompt);
        let request = request.max_tokens(u32::try_from(reference.tokens.len())?);
        let mut stream = request.temperature(0.0).logprobs(0).stream().await?;
        let mut answer = Self::default();
        while let Some(event) = stream.next().await {
            match event? {
                GenerateEvent::Chunk(chunk) => {
                    answer.text.push_str(&chunk.text);
                    answer.tokens.extend(chunk.token_ids);
                    let logprobs = chunk.logprobs.iter().map(|token| token.logprob);
                    answer.logprobs.extend(logprobs);
                }
                GenerateEvent::Done(done) => {
                    let timings = done.timings.context("timings")?;
                    let first = timings.time_to_first_token.context("a first token")?;
                    answer.first = to_duration(&first);
                    answer.rate = timings.tokens_per_second.context("a rate")?;
                }
            }
        }
        Ok(answer)
    }

    /// Whether it begins as anyone would accept.
    pub(super) fn is_accepted(&self, reference: &ReferenceAnswer) -> bool {
        self.text.starts_with(&reference.accepted)
    }

    /// Makes sure that it is the reference's.
    pub(super) fn check(&self, reference: &ReferenceAnswer) -> Result<()> {
        let Self { tokens, text, .. } = self;
        ensure!(
            *tokens == reference.tokens && *text == reference.text,
            "{text:?} in place of {:?}: {tokens:?} in place of {:?}",
            reference.text,
            reference.tokens
        );
        ensure!(
            self.difference(reference) < EXACT,
            "{:?} in place of {:?}",
            self.logprobs,
            reference.logprobs
        );
        Ok(())
    }

    /// How many of its tokens are the reference's, up to the first other one.
    pub(super) fn same(&self, reference: &ReferenceAnswer) -> usize {
        let pairs = self.tokens.iter().zip(&reference.tokens);
        pairs.take_while(|(one, other)| one == other).count()
    }

    /// The largest difference of the log probabilities of these tokens.
    pub(super) fn difference(&self, reference: &ReferenceAnswer) -> f32 {
        let pairs = self.logprobs.iter().zip(&reference.logprobs);
        let differences = pairs.map(|(one, other)| (one - other).abs());
        differences.take(self.same(reference)).fold(0.0, f32::max)
    }
}

/// Most that a worker holds until this is done, in bytes, read every 10 ms; and what comes of it.
async fn most_until<T>(worker: u32, done: impl Future<Output = Result<T>>) -> Result<(u64, T)> {
    let mut ticks = interval(Duration::from_millis(10));
    let mut most = 0;
    tokio::pin!(done);
    loop {
        tokio::select! {
            done = &mut done => return Ok((most, done?)),
            _ = ticks.tick() => most = most.max(processes::host_bytes(worker)?),
        }
    }
}

/// Unloads the model: its worker is gone, and with it what it held. How long that took, and how much it was.
async fn unload(client: &Client, id: &str, worker: u32) -> Result<(Duration, u64)> {
    let held = processes::host_bytes(worker)?;
    let unload = client.unload(id).send().await?;
    ensure!(
        unload.verification() == UnloadVerification::Reaped,
        "{unload:?}"
    );
    ensure!(!processes::exists(worker), "the worker {worker} is there");
    let freed = unload.host_bytes_freed;
    ensure!(freed.abs_diff(held) * 10 <= held, "{held} seen, {unload:?}");
    let took = unload.elapsed.context("a time")?;
    Ok((to_duration(&took), freed))
}
