//! Progress of a model of 886 MB. Not part of the default run: `cargo big` runs it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hangar_client::{
    Client, WatchEvent,
    convert::to_duration,
    v1::{LoadPhase, ModelState, ModelStatus, Progress},
};
use hangar_tests::{
    background::Background,
    fixtures::Fixtures,
    info, processes,
    server::{DEADLINE, TestServer, spec},
};
use tokio::time::{interval, timeout};

/// What a worker has mapped, in bytes, and when.
type MappedBytes = (Instant, u64);

/// How long before its message a progress may have been read.
const AGE: Duration = Duration::from_millis(150);

/// Reads what a worker has mapped, every 10 ms until the process ends or maps less again.
async fn sample(worker: u32) -> Vec<MappedBytes> {
    let mut ticks = interval(Duration::from_millis(10));
    let mut readings: Vec<MappedBytes> = Vec::new();
    loop {
        ticks.tick().await;
        let Ok(bytes) = processes::file_bytes(worker) else {
            return readings;
        };
        let peak = readings.iter().map(|reading| reading.1).max();
        if peak.is_some_and(|peak| bytes < peak / 2) {
            return readings;
        }
        readings.push((Instant::now(), bytes));
    }
}

/// Whether a reading shortly before the message says the same, within 5 % of the total.
fn is_seen(progress: &Progress, came: Instant, readings: &[MappedBytes]) -> bool {
    let base = readings.first().map_or(0, |reading| reading.1);
    let recent = readings
        .iter()
        .filter(|(at, _)| *at <= came && *at + AGE >= came);
    recent
        .map(|(_, bytes)| bytes.saturating_sub(base))
        .any(|seen| seen.abs_diff(progress.bytes_done) * 20 <= progress.bytes_total)
}

/// A load as a watcher saw it.
struct WatchedLoad {
    /// What came before READY, and when.
    messages: Vec<(Instant, ModelStatus)>,
    /// What the worker had mapped meanwhile.
    readings: Vec<MappedBytes>,
    /// When READY came.
    ready: Instant,
}

/// Loads the model, and watches it and its worker until it is READY.
async fn watch_load(client: &Client, path: &Path) -> Result<WatchedLoad> {
    let mut watch = client.watch().model("big").stream();
    watch.next().await.context("a snapshot")??;
    client.load("big").spec(spec(path)).send().await?;
    let mut messages = Vec::new();
    let mut sampling = None;
    let ready = loop {
        let event = timeout(DEADLINE, watch.next())
            .await?
            .context("the watch ended")??;
        let came = Instant::now();
        let (WatchEvent::Transition { status, .. } | WatchEvent::Progress { status }) = event
        else {
            continue;
        };
        match status.state() {
            ModelState::Ready => break came,
            ModelState::Loading if sampling.is_none() => {
                sampling = Some(Background::start(sample(status.worker_pid)));
            }
            ModelState::Failed => anyhow::bail!("{status:?}"),
            _ => {}
        }
        messages.push((came, status));
    };
    Ok(WatchedLoad {
        messages,
        readings: sampling.context("LOADING was not seen")?.end().await?,
        ready,
    })
}

/// Makes sure that what was reported as loaded is what the worker had mapped.
fn assert_seen(load: &WatchedLoad) {
    let loading = load.messages.iter();
    let loading = loading.filter_map(|(came, status)| Some((*came, status.progress?)));
    let loading = loading.filter(|(_, progress)| progress.phase() == LoadPhase::Loading);
    let loading: Vec<_> = loading
        .filter(|(_, progress)| progress.bytes_done > 0)
        .collect();
    println!(
        "{} values of progress, {} readings",
        loading.len(),
        load.readings.len()
    );
    assert!(loading.len() >= 10, "{loading:?}");
    for (came, progress) in &loading {
        assert!(is_seen(progress, *came, &load.readings), "{progress:?}");
        assert!(progress.bytes_total > 880_000_000, "{progress:?}");
    }
}

fn assert_monotone(messages: &[(Instant, ModelStatus)]) {
    let progress = messages.iter().filter_map(|(_, status)| status.progress);
    let fractions: Vec<f64> = progress.map(|progress| progress.fraction).collect();
    assert!(fractions.is_sorted(), "{fractions:?}");
    assert!(
        fractions
            .iter()
            .all(|fraction| (0.0..1.0).contains(fraction))
    );
}

/// An estimate is of the right size: between a quarter and four times of what it really took.
fn assert_plausible(messages: &[(Instant, ModelStatus)], ready: Instant) {
    let estimates = messages
        .iter()
        .filter_map(|(came, status)| Some((*came, to_duration(&status.progress?.eta?))));
    let mut reported = 0;
    for (came, eta) in estimates {
        let left = ready - came;
        let bounds =
            (left / 4).saturating_sub(Duration::from_secs(1))..left * 4 + Duration::from_secs(1);
        assert!(bounds.contains(&eta), "{eta:?} reported, {left:?} left");
        reported += 1;
    }
    assert!(reported > 0, "no estimate");
}

#[hangar_tests::test]
async fn a_load_reports_what_its_worker_maps_and_an_unload_what_it_frees() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.big_llama()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let load = watch_load(&client, &path).await?;
    assert_seen(&load);
    assert_monotone(&load.messages);
    assert_plausible(&load.messages, load.ready);

    let answer = client.generate("big").prompt("Hello").temperature(0.0);
    assert_eq!(answer.max_tokens(10).text().await?.text.len(), 10);
    let worker = info::worker(&client, "big").await?;
    let held = processes::host_bytes(worker)?;
    let unload = client.unload("big").send().await?;
    assert!(!processes::exists(worker));
    assert!(
        unload.host_bytes_freed.abs_diff(held) * 10 <= held,
        "{held} seen, {unload:?}"
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_waiting_load_reports_its_progress() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.big_llama()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut reported = Vec::new();
    let load = client.load("big").spec(spec(&path));
    let load = load
        .wait_with(|status| reported.push(status.clone()))
        .await?;
    assert_eq!(reported.last(), load.status.as_ref());
    let values = reported
        .iter()
        .filter(|status| status.progress.is_some_and(|p| p.bytes_done > 0));
    assert!(values.count() >= 10, "{reported:?}");
    Ok(())
}
