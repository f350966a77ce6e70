//! Random calls of everything that a server offers, with two loaded models that have to survive them.
//!
//! The calls follow from the seed; how they fall together in time does not.

mod calls;
mod ids;
mod messages;
mod schema;
mod words;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use calls::RandomCalls;
use fastrand::Rng;
use futures::future::join_all;
use hangar_client::{
    Client, Watch, WatchEvent,
    v1::{DemoSource, ModelSource, ModelSpec, ModelState, ModelStatus, model_source::Source},
};
use tonic::Code;

use crate::{
    fixtures::Fixtures,
    info,
    raw::{RawAnswer, RawClient},
    server::{TestServer, spec},
};

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub struct FuzzRound {
    /// Where the calls come from.
    pub seed: u64,
    /// How many calls there are at most.
    pub calls: u64,
    /// No call begins after this time.
    pub time: Duration,
}

/// What came of a round.
#[derive(Debug)]
pub struct FuzzReport {
    /// How many calls ended in each way: "OK", or a code and a reason.
    pub ends: BTreeMap<String, u64>,
    /// Calls and models that ended as none may.
    pub faults: Vec<String>,
}

/// The models that no call may harm.
const WATCHED: [&str; 2] = ["demo", "hostile"];

/// Callers at the same time.
const CALLERS: u64 = 4;

/// Equal calls that a caller makes at the same time now and then.
const TOGETHER: usize = 16;

/// Faults that are reported; more would say nothing new.
const MAX_FAULTS: usize = 20;

/// Refuses with the caller's own words, as some models' templates do. It takes the efforts that there are, such as "medium".
pub const HOSTILE: &str = "{% if reasoning_effort|length > 9 %}\
    {{ raise_exception('unknown reasoning_effort: ' ~ reasoning_effort) }}{% endif %}\
    {% for m in messages %}{% if m.content is string and m.content[:6] == 'refuse' %}\
    {{ raise_exception(m.content) }}{% endif %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";

/// A worker and how often it was restarted.
type WorkerRun = (u32, u64, i32);

/// Asks a server of its own whatever comes to mind.
///
/// # Errors
///
/// When the server cannot be started, or a watched model did not survive.
pub async fn run(round: FuzzRound) -> Result<FuzzReport> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let model = fixtures.llama()?;
    load(&client, spec(&model)).await?;
    let before = worker_runs(&client).await?;
    let schema = schema::read(&server.url()).await?;
    let path = model.to_string_lossy().into_owned();
    let calls = Arc::new(RandomCalls::new(schema, path)?);
    let report = Arc::new(Mutex::new(FuzzReport {
        ends: BTreeMap::new(),
        faults: Vec::new(),
    }));
    let mut watch = client.watch().stream();
    watch.next().await.context("no watch")??;
    let url = server.url();
    tokio::select! {
        ended = call_at_random(round, &url, calls, &report) => ended?,
        () = note_deaths(watch, &report) => bail!("the watch ended"),
    }
    let report = Arc::into_inner(report).context("a caller is left")?;
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    let after = worker_runs(&client).await?;
    ensure!(
        after == before,
        "{before:?} became {after:?}\n{report:?}\n{}",
        server.log()?
    );
    for id in WATCHED {
        client
            .generate(id)
            .prompt("Hello")
            .max_tokens(2)
            .text()
            .await?;
    }
    Ok(report)
}

/// Some callers at once, each with a part of the round's calls.
async fn call_at_random(
    round: FuzzRound,
    url: &str,
    calls: Arc<RandomCalls>,
    report: &Arc<Mutex<FuzzReport>>,
) -> Result<()> {
    let (begun, begin) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..CALLERS {
        let caller = RawClient::connect(url).await?;
        let (calls, report, begun) = (calls.clone(), report.clone(), begun.clone());
        let mut rng = Rng::with_seed(round.seed.wrapping_add(number));
        callers.spawn(async move {
            while begin.elapsed() < round.time
                && begun.fetch_add(1, Ordering::Relaxed) < round.calls
            {
                let call = calls.next(&mut rng);
                let name = call.path.clone();
                let together = if rng.u8(..100) == 0 { TOGETHER } else { 1 };
                let answers = (0..together).map(|_| caller.call(call.clone()));
                let answers = join_all(answers).await;
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                for answer in answers {
                    report.note(&name, answer);
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended?;
    }
    Ok(())
}

/// Reasons of ends of workers that no call may cause.
const DEATHS: [&str; 2] = ["WORKER_DIED", "WORKER_HUNG"];

/// Whether a worker ended, or is ending, as no call may make it.
fn is_death(status: &ModelStatus) -> bool {
    let starved = status
        .message
        .contains("because it needed more memory than");
    starved || DEATHS.contains(&status.reason.as_str())
}

/// Notes the ends of all workers, those of random loads among them, until the watch ends.
async fn note_deaths(mut watch: Watch, report: &Mutex<FuzzReport>) {
    while let Some(event) = watch.next().await {
        if let Ok(WatchEvent::Transition { status, .. }) = event
            && is_death(&status)
        {
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.fault(format!("{}: {}", status.model_id, status.message));
        }
    }
}

/// Loads the watched models.
async fn load(client: &Client, hostile: ModelSpec) -> Result<()> {
    let demo = ModelSpec {
        source: Some(ModelSource {
            source: Some(Source::Demo(DemoSource {})),
        }),
        ..ModelSpec::default()
    };
    let hostile = ModelSpec {
        chat_template: HOSTILE.to_owned(),
        ..hostile
    };
    for (id, spec) in WATCHED.into_iter().zip([demo, hostile]) {
        // Others may be loaded, and must not drive these out.
        let spec = ModelSpec {
            pinned: true,
            ..spec
        };
        client.load(id).spec(spec).wait().await?;
    }
    Ok(())
}

async fn worker_runs(client: &Client) -> Result<Vec<WorkerRun>> {
    let mut worker_runs = Vec::new();
    for id in WATCHED {
        let model = info::model(client, id).await?;
        let status = model.status.context("a status")?;
        let restarts = model.metrics.context("metrics")?.restarts;
        ensure!(status.state() == ModelState::Ready, "{id}: {status:?}");
        worker_runs.push((status.worker_pid, restarts, status.state));
    }
    Ok(worker_runs)
}

impl FuzzReport {
    fn note(&mut self, path: &str, answer: Result<RawAnswer>) {
        let end = answer.and_then(|answer| match answer.status.code() {
            Code::Ok => Ok("OK".to_owned()),
            code => {
                let reason = answer.error_info()?.reason;
                ensure!(!DEATHS.contains(&reason.as_str()), "{answer}");
                Ok(format!("{code:?} {reason}"))
            }
        });
        match end {
            Ok(end) => *self.ends.entry(end).or_default() += 1,
            Err(fault) => self.fault(format!("{path}: {fault:#}")),
        }
    }

    fn fault(&mut self, fault: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }
}
