//! Clients that use and load models at random, and what they were answered.

use std::{collections::BTreeSet, time::SystemTime};

use anyhow::Result;
use hangar_client::{
    Client, Error,
    convert::to_system_time,
    v1::{
        ModelState::{Failed, Ready, Unloaded},
        ModelStatus, SuspendReason,
    },
};
use hangar_tests::server::DEADLINE;
use tokio::task::JoinSet;

use super::server::MemoryServer;

/// Models that never have to go: pinned, required, held.
pub(crate) const PROTECTED: [&str; 3] = ["pinned", "required", "held"];

/// Models that a request loads.
pub(crate) const ON_DEMAND: [&str; 3] = ["demand-0", "demand-1", "demand-2"];

/// Models that have to be loaded.
pub(crate) const PLAIN: [&str; 2] = ["plain-0", "plain-1"];

/// Prompt of all requests; there is one right answer.
const PROMPT: &str = "Hello";

/// So many clients that do so many operations each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrafficPlan {
    pub(crate) seed: u64,
    pub(crate) clients: u64,
    pub(crate) operations: usize,
}

/// Something that a client did.
#[derive(Debug)]
pub(crate) struct ClientOperation {
    pub(crate) client: u64,
    pub(crate) model: &'static str,
    pub(crate) call: ClientAction,
    pub(crate) began: SystemTime,
    pub(crate) ended: SystemTime,
    pub(crate) answer: Result<String, Error>,
}

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientAction {
    Load,
    Generate,
}

impl TrafficPlan {
    /// Does all of it and gives what was done, in no order.
    pub(crate) async fn run(self, server: &MemoryServer) -> Result<Vec<ClientOperation>> {
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let client = server.connect().await?;
            clients.spawn(self.act(number, client));
        }
        let mut operations = Vec::new();
        while let Some(done) = clients.join_next().await {
            operations.extend(done?);
        }
        Ok(operations)
    }

    async fn act(self, number: u64, client: Client) -> Vec<ClientOperation> {
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
                done.push(record(number, model, ClientAction::Load, load).await);
            }
            let generate = || async {
                let answer = client.generate(model).prompt(PROMPT).temperature(0.0);
                let answer = answer.max_tokens(tokens).timeout(DEADLINE).text().await;
                answer.map(|answer| answer.text)
            };
            done.push(record(number, model, ClientAction::Generate, generate).await);
        }
        done
    }
}

async fn record<F: Future<Output = Result<String, Error>>>(
    client: u64,
    model: &'static str,
    call: ClientAction,
    work: impl FnOnce() -> F,
) -> ClientOperation {
    let began = SystemTime::now();
    let answer = work().await;
    ClientOperation {
        client,
        model,
        call,
        began,
        ended: SystemTime::now(),
        answer,
    }
}

impl ClientOperation {
    /// Models, other than its own and the protected ones, that others had to do with meanwhile, or since the load began
    /// that this operation joined, and those that had not come to rest by then.
    pub(crate) fn concurrent_models<'a>(
        &self,
        all: &'a [ClientOperation],
        transitions: &'a [ModelStatus],
    ) -> BTreeSet<&'a str> {
        let began = self.load_began(transitions);
        let meanwhile = |other: &&ClientOperation| {
            other.client != self.client && other.began <= self.ended && began <= other.ended
        };
        let used = all.iter().filter(meanwhile).map(|other| other.model);
        let models = transitions.iter().map(|status| status.model_id.as_str());
        let moving = models.filter(|model| {
            let last = last_before(transitions, model, began);
            last.is_some_and(|status| !is_at_rest(status) && !is_evicted(status))
        });
        used.chain(moving)
            .filter(|model| *model != self.model && !PROTECTED.contains(model))
            .collect()
    }

    /// When this began, or the load of its model that was under way by then.
    fn load_began(&self, transitions: &[ModelStatus]) -> SystemTime {
        match last_before(transitions, self.model, self.began) {
            Some(status) if !is_at_rest(status) => {
                let of_load = |other: &&ModelStatus| {
                    other.model_id == self.model && other.load_id == status.load_id
                };
                let first = transitions.iter().find(of_load);
                first.and_then(since).unwrap_or(self.began)
            }
            _ => self.began,
        }
    }
}

/// Whether nothing is on its way with a model.
pub(crate) fn is_at_rest(status: &ModelStatus) -> bool {
    matches!(status.state(), Ready | Unloaded | Failed)
}

fn is_evicted(status: &ModelStatus) -> bool {
    status.suspend_reason() == SuspendReason::Evicted
}

/// The last transition of a model until a moment.
fn last_before<'a>(
    transitions: &'a [ModelStatus],
    model: &str,
    moment: SystemTime,
) -> Option<&'a ModelStatus> {
    let earlier = |status: &&ModelStatus| {
        status.model_id == model && since(status).is_some_and(|since| since <= moment)
    };
    transitions.iter().rfind(earlier)
}

fn since(status: &ModelStatus) -> Option<SystemTime> {
    status.since.as_ref().and_then(to_system_time)
}
