//! Progress of a load, as watchers get it.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{
        ChangeKind, ModelSpec, ModelState, ModelStatus, RestartMode, RestartPolicy,
        WatchStatusRequest, watch_status_response::Event,
    },
};
use hangar_tests::{
    fixtures::Fixtures,
    scripted::{Gate, LoadScript, Script},
    server::{TestServer, spec},
};
use tokio::{task::JoinSet, time::Instant};

use super::raw::{RawWatch, of, open};

const SHORTEST: Duration = Duration::from_millis(100);
const LONGER: Duration = Duration::from_millis(600);
const MEASURED: usize = 20;

/// A load in 40 steps, each of which waits at the gate.
fn stepwise() -> Script {
    Script {
        load: LoadScript {
            bytes: 40 << 20,
            steps: 40,
            step_gate: Some("step".into()),
            ..LoadScript::default()
        },
        ..Script::default()
    }
}

/// What a load says of itself from the watch's beginning to READY: each status, and whether it came as
/// progress. A step is let through for each progress, until there were enough.
async fn statuses(watch: &mut RawWatch, gate: Option<&Gate>) -> Result<Vec<(bool, ModelStatus)>> {
    watch.snapshot().await?;
    let mut statuses = Vec::new();
    let mut progress = 0;
    loop {
        let Event::Changed(changed) = watch.event().await? else {
            continue;
        };
        let is_progress = changed.kind() == ChangeKind::Progress;
        let status = changed.status.context("no status")?;
        if let Some(gate) = gate {
            progress += usize::from(is_progress);
            match (status.state(), progress) {
                (ModelState::Loading, 0..MEASURED) => gate.step(1)?,
                (ModelState::Loading, _) => gate.open()?,
                _ => {}
            }
        }
        let is_ready = status.state() == ModelState::Ready;
        statuses.push((is_progress, status));
        if is_ready {
            return Ok(statuses);
        }
    }
}

fn progress_in(statuses: &[(bool, ModelStatus)]) -> usize {
    statuses
        .iter()
        .filter(|(is_progress, _)| *is_progress)
        .count()
}

/// The most messages that can come in this time with this pause between them.
fn at_most(elapsed: Duration, interval: Duration) -> usize {
    let pauses = elapsed.as_secs_f64() / interval.as_secs_f64();
    1 + pauses.floor() as usize
}

async fn watch_with(client: &Client, interval: Duration) -> Result<RawWatch> {
    let request = WatchStatusRequest {
        progress_interval: Some(prost_types::Duration::try_from(interval)?),
        ..of(&["m"])
    };
    Ok(open(client, request).await?)
}

async fn load(client: &Client, path: &Path, change: impl FnOnce(&mut ModelSpec)) -> Result<()> {
    let mut spec = spec(path);
    change(&mut spec);
    client.load("m").spec(spec).send().await?;
    Ok(())
}

#[hangar_tests::test]
async fn progress_never_goes_back_and_is_whole_only_when_ready() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let model = fixtures.scripted("m", &stepwise())?;
    let gate = Gate::new(&model, "step")?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut watch = open(&client, of(&["m"])).await?;
    load(&client, &model, |_| ()).await?;
    let statuses = statuses(&mut watch, Some(&gate)).await?;
    let (mut fraction, mut bytes) = (0.0, 0);
    let mut values = 0;
    for (_, status) in &statuses {
        let Some(progress) = &status.progress else {
            assert_eq!(status.state(), ModelState::Ready, "{status:?}");
            continue;
        };
        let is_whole = progress.fraction >= 1.0;
        assert_eq!(is_whole, status.state() == ModelState::Ready, "{status:?}");
        assert!(
            progress.fraction >= fraction,
            "{fraction}, then {progress:?}"
        );
        if status.state() == ModelState::Loading {
            assert!(
                (bytes..=40 << 20).contains(&progress.bytes_done),
                "{bytes}, then {progress:?}"
            );
            assert_eq!(progress.bytes_total, 40 << 20);
            bytes = progress.bytes_done;
        }
        values += usize::from(progress.fraction > fraction);
        fraction = progress.fraction;
    }
    assert!(values >= 10, "only {values} values");
    assert!(fraction > 0.9, "{fraction} at last");
    Ok(())
}

#[hangar_tests::test]
async fn progress_comes_at_most_as_often_as_was_asked_for() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let model = fixtures.scripted("m", &stepwise())?;
    let gate = Gate::new(&model, "step")?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut often = open(&client, of(&["m"])).await?;
    let mut seldom = watch_with(&client, LONGER).await?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        statuses(&mut seldom, None)
            .await
            .map(|s| (progress_in(&s), began.elapsed()))
    });
    load(&client, &model, |_| ()).await?;
    let count = progress_in(&statuses(&mut often, Some(&gate)).await?);
    assert!(count >= MEASURED);
    assert!(
        count <= at_most(began.elapsed(), SHORTEST),
        "{count} in {:?}",
        began.elapsed()
    );
    let (count, elapsed) = tasks.join_next().await.context("no task")???;
    assert!(
        count >= 2 && count <= at_most(elapsed, LONGER),
        "{count} in {elapsed:?}"
    );
    Ok(())
}

#[hangar_tests::test]
async fn progress_is_coalesced_across_attempts() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let script = Script {
        die_on_attempts: (1..=15).collect(),
        ..Script::default()
    };
    let model = fixtures.scripted("m", &script)?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut watch = open(&client, of(&["m"])).await?;
    let soon = Some(prost_types::Duration {
        seconds: 0,
        nanos: 10_000_000,
    });
    let began = Instant::now();
    let policy = RestartPolicy {
        mode: RestartMode::OnFailure.into(),
        max_attempts: 20,
        initial_backoff: soon,
        max_backoff: soon,
        ..RestartPolicy::default()
    };
    load(&client, &model, |spec| spec.restart_policy = Some(policy)).await?;
    let statuses = statuses(&mut watch, None).await?;
    let elapsed = began.elapsed();
    assert_eq!(statuses.last().map(|(_, status)| status.attempt), Some(16));
    let count = progress_in(&statuses);
    assert!(
        count <= at_most(elapsed, SHORTEST),
        "{count} in {elapsed:?}"
    );
    Ok(())
}
