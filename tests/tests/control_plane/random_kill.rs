//! SIGKILL at random moments while clients create, change, delete, load and unload models: nothing that was
//! acknowledged is lost, what should be loaded comes back, and nothing is left behind.
//!
//! `HANGAR_TESTS_KILLS` says how often, `HANGAR_TESTS_SEED` makes a run like an earlier one.

mod clients;
mod expected_state;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use clients::{RandomClient, ServerRun};
use expected_state::{ExpectedState, KnownEntry};
use hangar_client::{
    Client, Error,
    v1::{ErrorReason, ModelState},
};
use hangar_tests::{
    installation::Installation,
    server::{DEADLINE, TestServer},
};
use tokio::{task::JoinSet, time::timeout};

/// Kills in a run that nobody sets a number for.
const KILLS: u64 = 100;

/// After so many kills the desired models have to come back.
const KILLS_PER_CHECK: u64 = 10;

/// Clients.
const CLIENTS: u64 = 3;

/// How long a server runs, in milliseconds.
const UPTIME: std::ops::Range<u64> = 5..250;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What is registered under `id`, if anything is.
async fn observe(client: &Client, id: &str) -> Result<Option<KnownEntry>> {
    let model = match client.get_model(id).send().await {
        Err(error) if error.reason() == Some(ErrorReason::ModelNotFound) => return Ok(None),
        model => model?,
    };
    let info = client.info().model(id).send().await?.models;
    let desired = info.first().context("no info")?.desired_state();
    Ok(Some(KnownEntry::of(model, desired)))
}

/// Compares all that is registered with what may be, and takes it for what is from now on.
async fn compare(
    client: &Client,
    expected_states: &mut BTreeMap<String, ExpectedState>,
) -> Result<()> {
    for (id, expected_state) in expected_states.iter_mut() {
        let seen = observe(client, id).await?;
        expected_state
            .settle(seen)
            .with_context(|| format!("model {id}"))?;
    }
    let mut listed = client.list_models().page_size(5).stream();
    let mut count = 0;
    while let Some(model) = listed.next().await {
        let id = model?.model_id;
        let expected_state = expected_states
            .get(&id)
            .with_context(|| format!("{id} was never created"))?;
        anyhow::ensure!(expected_state.entry.is_some(), "{id} is listed");
        count += 1;
    }
    let expected = expected_states
        .values()
        .filter(|expected_state| expected_state.entry.is_some())
        .count();
    anyhow::ensure!(count == expected, "{count} of {expected} models are listed");
    Ok(())
}

/// Waits until every model that should be loaded is READY, and no other has a worker.
async fn come_back(
    server: &TestServer,
    expected_states: &BTreeMap<String, ExpectedState>,
) -> Result<()> {
    for (id, expected_state) in expected_states {
        if expected_state
            .entry
            .as_ref()
            .is_some_and(|known| known.desired)
        {
            server.follow(id).await?.until(ModelState::Ready).await?;
        }
    }
    let info = server.connect().await?.info().send().await?;
    for model in info.models {
        let status = model.status.context("a status")?;
        let desired = expected_states[&model.model_id]
            .entry
            .as_ref()
            .is_some_and(|known| known.desired);
        let state = if desired {
            ModelState::Ready
        } else {
            ModelState::Unloaded
        };
        anyhow::ensure!(status.state() == state, "{status:?}");
    }
    Ok(())
}

/// One run of so many may end before anything was done in it.
const NOTHING_DONE: u64 = 5;

/// One run of so many ends before the server serves.
const KILLED_EARLY: u64 = 4;

/// Starts a server and kills it before it serves, or soon after.
async fn kill_early(installation: &Installation, random: &mut fastrand::Rng) -> Result<()> {
    let moment = Duration::from_micros(random.u64(0..20_000));
    // A server that did not start by itself is an error; one that was killed is not.
    if let Ok(started) = timeout(moment, installation.start()).await {
        started?.kill()?;
    }
    installation.no_process_left(DEADLINE).await
}

/// One run of a server: it is checked, used and killed.
async fn run(
    installation: &Installation,
    expected_states: &mut BTreeMap<String, ExpectedState>,
    random: &mut fastrand::Rng,
    number: u64,
) -> Result<usize> {
    let server = installation.start().await?;
    let client = Client::builder(server.url()).retries(0).connect().await?;
    compare(&client, expected_states).await?;
    if number.is_multiple_of(KILLS_PER_CHECK) {
        timeout(DEADLINE, come_back(&server, expected_states)).await??;
    }
    let shared = Arc::new(ServerRun::default());
    let mut random_clients = JoinSet::new();
    for owner in 0..CLIENTS {
        let random_client = RandomClient::new(
            owner,
            &client,
            installation,
            expected_states,
            random.u64(..),
            &shared,
        )?;
        random_clients.spawn(random_client.act());
    }
    // The moment of the kill is the one thing that is to be random in time.
    let moment = Duration::from_millis(random.u64(UPTIME));
    let _ = timeout(moment, std::future::pending::<()>()).await;
    // In most runs, however slow the machine is, something was done by then.
    if !number.is_multiple_of(NOTHING_DONE) {
        timeout(DEADLINE, shared.acknowledged.notified()).await?;
    }
    shared.killed.store(true, Ordering::SeqCst);
    server.kill()?;
    let mut acknowledged = 0;
    while let Some(random_client) = random_clients.join_next().await {
        let random_client = random_client??;
        acknowledged += random_client.acknowledged;
        expected_states.extend(random_client.expected_states);
    }
    installation.no_process_left(DEADLINE).await?;
    Ok(acknowledged)
}

async fn survive(kills: u64, seed: u64) -> Result<()> {
    let installation = Installation::real()?;
    installation.fixtures.llama()?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut expected_states = BTreeMap::new();
    let mut acknowledged = 0;
    for number in 0..kills {
        if number % KILLED_EARLY == 1 {
            let ended = kill_early(&installation, &mut random).await;
            ended.with_context(|| format!("run {number} of {kills}, killed at its start"))?;
            continue;
        }
        let done = run(&installation, &mut expected_states, &mut random, number).await;
        acknowledged += done.with_context(|| format!("run {number} of {kills}"))?;
    }
    let server = installation.start().await?;
    let client = server.connect().await?;
    compare(&client, &mut expected_states).await?;
    timeout(DEADLINE, come_back(&server, &expected_states)).await??;
    let desired = expected_states.values().filter(|expected_state| {
        expected_state
            .entry
            .as_ref()
            .is_some_and(|known| known.desired)
    });
    println!(
        "{kills} kills, {acknowledged} acknowledged changes, {} models back",
        desired.count()
    );
    anyhow::ensure!(acknowledged as u64 > kills / 2, "next to nothing was done");
    server.terminate().await?;
    installation.no_process_left(DEADLINE).await?;
    anyhow::ensure!(installation.sockets()? == 0, "sockets are left");
    Ok(())
}

#[hangar_tests::test]
async fn nothing_acknowledged_is_lost_by_sigkill_at_random_moments() -> Result<()> {
    let kills = setting("HANGAR_TESTS_KILLS").unwrap_or(KILLS);
    let seed = setting("HANGAR_TESTS_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("HANGAR_TESTS_SEED={seed} HANGAR_TESTS_KILLS={kills}");
    survive(kills, seed)
        .await
        .with_context(|| format!("HANGAR_TESTS_SEED={seed}"))
}

/// Whether a call failed because the server was killed, so that nobody knows what became of it.
fn is_broken_off(error: &Error) -> bool {
    error.is_unreachable() || error.reason().is_none()
}
