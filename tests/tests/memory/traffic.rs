//! Clients that use and load models at random, and what they were told.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use hangar_client::{Client, Error};
use hangar_tests::hangar::DEADLINE;
use tokio::task::JoinSet;

use crate::server::TestServer;

/// Models that never have to go: pinned, required, held.
pub(crate) const PROTECTED: [&str; 3] = ["pinned", "required", "held"];

/// Models that a request loads.
pub(crate) const ON_DEMAND: [&str; 3] = ["demand-0", "demand-1", "demand-2"];

/// Models that have to be loaded.
pub(crate) const PLAIN: [&str; 2] = ["plain-0", "plain-1"];

/// Prompt of all requests; there is one right answer.
const PROMPT: &str = "Hello";

/// Time that a refused load takes to end its worker, on a busy machine.
const REFUSAL: Duration = Duration::from_secs(2);

/// So many clients that do so many operations each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) clients: u64,
    pub(crate) operations: usize,
}

/// Something that a client did.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) client: u64,
    pub(crate) model: &'static str,
    pub(crate) call: Call,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) answer: Result<String, Error>,
}

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Load,
    Generate,
}

impl Plan {
    /// Does all of it and gives what was done, in no order.
    pub(crate) async fn run(self, server: &TestServer) -> Result<Vec<Operation>> {
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let client = server.hangar.client().await?;
            clients.spawn(self.act(number, client));
        }
        let mut operations = Vec::new();
        while let Some(done) = clients.join_next().await {
            operations.extend(done?);
        }
        Ok(operations)
    }

    async fn act(self, number: u64, client: Client) -> Vec<Operation> {
        let mut random = fastrand::Rng::with_seed(self.seed.wrapping_add(number));
        let mut done = Vec::new();
        for _ in 0..self.operations {
            // Two of three operations are for those who come and go.
            let model = match random.u32(0..6) {
                0 | 1 => PROTECTED[random.usize(0..PROTECTED.len())],
                2 | 3 => ON_DEMAND[random.usize(0..ON_DEMAND.len())],
                _ => PLAIN[random.usize(0..PLAIN.len())],
            };
            let tokens = random.u32(1..=24);
            if PLAIN.contains(&model) {
                let load = || async {
                    let load = client.load(model).wait().await;
                    load.map(|_| String::new())
                };
                done.push(record(number, model, Call::Load, load).await);
            }
            let generate = || async {
                let answer = client.generate(model).prompt(PROMPT).temperature(0.0);
                let answer = answer.max_tokens(tokens).timeout(DEADLINE).text().await;
                answer.map(|answer| answer.text)
            };
            done.push(record(number, model, Call::Generate, generate).await);
        }
        done
    }
}

async fn record<F: Future<Output = Result<String, Error>>>(
    client: u64,
    model: &'static str,
    call: Call,
    work: impl FnOnce() -> F,
) -> Operation {
    let began = Instant::now();
    let answer = work().await;
    Operation {
        client,
        model,
        call,
        began,
        ended: Instant::now(),
        answer,
    }
}

impl Operation {
    /// Models, other than its own and the protected ones, that others had to do with meanwhile, or just before:
    /// it may have joined a load that was being refused.
    pub(crate) fn company<'a>(&self, all: &'a [Operation]) -> BTreeSet<&'a str> {
        let meanwhile = |other: &&Operation| {
            other.client != self.client
                && other.began <= self.ended
                && self.began <= other.ended + REFUSAL
        };
        let models = all.iter().filter(meanwhile).map(|other| other.model);
        models
            .filter(|model| *model != self.model && !PROTECTED.contains(model))
            .collect()
    }
}
