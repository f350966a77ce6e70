//! More models than fit, under mixed traffic.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use hangar_client::{
    Client, WatchEvent,
    v1::{
        ErrorReason, ModelSpec,
        ModelState::{Draining, Pending},
        ModelStatus,
        SuspendReason::Evicted,
    },
};
use hangar_tests::{background::Background, server::DEADLINE};
use tokio::{sync::oneshot, time::timeout};

use super::{
    server::MemoryServer,
    traffic::{
        ClientAction, ClientOperation, ON_DEMAND, PLAIN, PROTECTED, TrafficPlan, is_at_rest,
    },
};

/// A model that loads claims this much of a unit at most: its headroom, and what its memory varies by.
const CLAIM: f64 = 1.3;

/// A model that is READY claims this much of a unit at most.
const HELD: f64 = 1.1;

/// Loads that one request may cause.
const LOADS: usize = 4;

/// The variable that sets the seed.
const SEED: &str = "HANGAR_TESTS_SEED";

/// Every transition from a moment on.
struct TransitionRecord {
    stop: oneshot::Sender<()>,
    task: Background<Result<Vec<ModelStatus>>>,
}

impl TransitionRecord {
    async fn start(client: &Client) -> Result<Self> {
        let mut watch = client.watch().stream();
        watch.next().await.context("a snapshot")??;
        let (stop, mut stopped) = oneshot::channel();
        let task = Background::start(async move {
            let mut seen = Vec::new();
            loop {
                let event = tokio::select! {
                    event = watch.next() => event.context("the watch ended")??,
                    _ = &mut stopped => return Ok(seen),
                };
                match event {
                    WatchEvent::Transition { status, .. } => seen.push(status),
                    WatchEvent::Snapshot { .. } => anyhow::bail!("the watch lost continuity"),
                    _ => {}
                }
            }
        });
        Ok(Self { stop, task })
    }

    async fn end(self) -> Result<Vec<ModelStatus>> {
        // Only fails when the task has ended, which it reports itself.
        let _ = self.stop.send(());
        self.task.end().await?
    }
}

/// The server with all models registered and the protected ones loaded.
async fn fill(units: f64) -> Result<(MemoryServer, hangar_client::Session)> {
    let server = MemoryServer::for_units(units).await?;
    let client = &server.client;
    let session = client.open_session(Duration::from_secs(120)).await?;
    for id in PROTECTED {
        let spec = ModelSpec {
            pinned: id == "pinned",
            required: id == "required",
            ..server.spec()?
        };
        let load = client.load(id).spec(spec);
        match id {
            "held" => load.session(&session).wait().await?,
            _ => load.wait().await?,
        };
    }
    for id in ON_DEMAND {
        let spec = ModelSpec {
            load_on_demand: true,
            ..server.spec()?
        };
        client.create_model(id, spec).send().await?;
    }
    for id in PLAIN {
        client.create_model(id, server.spec()?).send().await?;
    }
    Ok((server, session))
}

/// Waits until nothing is on its way any more.
async fn rest(server: &MemoryServer) -> Result<()> {
    let at_rest =
        |status: &ModelStatus| is_at_rest(status) && status.in_flight + status.queued == 0;
    let rest = async {
        loop {
            let info = server.client.info().send().await?;
            let mut statuses = info.models.iter().filter_map(|model| model.status.as_ref());
            if statuses.all(at_rest) {
                return anyhow::Ok(());
            }
        }
    };
    timeout(DEADLINE, rest)
        .await
        .context("models do not come to rest")?
}

/// Nothing that was in use or protected was evicted, and nothing went for another reason.
fn check_evictions(transitions: &[ModelStatus]) -> usize {
    let gone = transitions
        .iter()
        .filter(|status| status.state() == Draining);
    let mut evictions = 0;
    for status in gone {
        evictions += 1;
        assert!(!PROTECTED.contains(&status.model_id.as_str()), "{status:?}");
        assert_eq!(status.suspend_reason(), Evicted, "{status:?}");
        assert_eq!((status.in_flight, status.queued), (0, 0), "{status:?}");
        assert!(status.message.starts_with("evicted"), "{status:?}");
    }
    evictions
}

/// What was refused did not fit next to the protected models and those that others had to do with.
fn check_refusals(
    operations: &[ClientOperation],
    transitions: &[ModelStatus],
    units: f64,
) -> usize {
    let mut refused = 0;
    for operation in operations {
        let Err(error) = &operation.answer else {
            continue;
        };
        let came_and_went =
            operation.call == ClientAction::Generate && PLAIN.contains(&operation.model);
        match error.reason() {
            Some(ErrorReason::InsufficientMemory) => {
                refused += 1;
                let concurrent_models = operation.concurrent_models(operations, transitions);
                let taken = PROTECTED.len() as f64 * HELD + concurrent_models.len() as f64 * CLAIM;
                assert!(
                    taken + CLAIM > units,
                    "would have fitted: {operation:?}, {concurrent_models:?}"
                );
            }
            // It was evicted, or was refused, between the client's load and its request.
            Some(ErrorReason::ModelNotLoaded | ErrorReason::ModelLoading) if came_and_went => {}
            _ => panic!("{operation:?}"),
        }
    }
    refused
}

/// All answers are beginnings of the same text.
fn check_answers(operations: &[ClientOperation]) {
    let texts = operations
        .iter()
        .filter_map(|operation| operation.answer.as_ref().ok());
    let longest = texts.clone().max_by_key(|text| text.len());
    for text in texts {
        assert!(
            longest.is_some_and(|longest| longest.starts_with(text.as_str())),
            "{text:?}"
        );
    }
}

/// What is evicted comes back only when somebody asks for it.
fn check_loads(transitions: &[ModelStatus], operations: &[ClientOperation]) -> usize {
    let mut requests = BTreeMap::<&str, usize>::new();
    for operation in operations {
        *requests.entry(operation.model).or_default() += 1;
    }
    let mut loads = BTreeMap::<&str, usize>::new();
    for status in transitions
        .iter()
        .filter(|status| status.state() == Pending)
    {
        *loads.entry(&status.model_id).or_default() += 1;
    }
    for (model, loads) in &loads {
        let requests = requests.get(model).copied().unwrap_or_default();
        assert!(
            *loads <= requests * LOADS,
            "{model}: {loads} loads for {requests} requests"
        );
    }
    loads.values().sum()
}

/// Lets clients loose on eight models in a server with room for so many, checks what they did and saw, and
/// gives the number of refusals.
async fn endure(units: f64, clients: u64, operations: usize) -> Result<usize> {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let plan = TrafficPlan {
        seed: seed.unwrap_or_else(|| fastrand::u64(..)),
        clients,
        operations,
    };
    println!("{SEED}={} for {plan:?}", plan.seed);
    let (server, session) = fill(units).await?;
    let record = TransitionRecord::start(&server.client).await?;
    let done = plan.run(&server).await?;
    rest(&server).await?;
    let before = record.end().await?;
    let after = TransitionRecord::start(&server.client).await?;
    // A sentinel: between the end of the traffic and this unload nothing moved by itself.
    server.client.unload("pinned").send().await?;
    let after = after.end().await?;
    assert!(
        after.iter().all(|status| status.model_id == "pinned"),
        "{after:?}"
    );
    let evictions = check_evictions(&before);
    let refused = check_refusals(&done, &before, units);
    let loads = check_loads(&before, &done);
    check_answers(&done);
    println!(
        "{} operations, {loads} loads, {evictions} evictions, {refused} refusals, {} transitions",
        done.len(),
        before.len()
    );
    assert!(evictions > 0, "the models fitted all together");
    session.close().await?;
    server.server.terminate().await?;
    Ok(refused)
}

#[hangar_tests::test]
async fn two_clients_are_never_refused_where_there_is_memory_for_two() -> Result<()> {
    // Three protected models, one that loads with its headroom, and one in use.
    assert_eq!(endure(6.0, 2, 50).await?, 0);
    Ok(())
}

#[hangar_tests::test]
async fn many_clients_are_refused_only_what_does_not_fit() -> Result<()> {
    assert!(
        endure(4.8, 6, 20).await? > 0,
        "there was room for everybody"
    );
    Ok(())
}
