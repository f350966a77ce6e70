//! A watcher that disconnects at random and resumes sees what an undisturbed one sees.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use hangar_client::{
    Client, WatchEvent,
    v1::{
        ChangeKind, ModelState, ModelStatus, WatchStatusResponse,
        model_service_client::ModelServiceClient, watch_status_response::Event,
    },
};
use hangar_tests::{
    fixtures::Fixtures,
    processes::{eventually, open_files},
    scripted::Script,
    server::{DEADLINE, TestServer},
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tonic::transport::Endpoint;

use super::{
    cutter::Cutter,
    frequent_changes::{fail, load_and_unload, unusable},
    raw::{RawWatch, behind, of, open},
};

const DISCONNECTS: usize = 1000;
const MARKER: &str = "the-end";

/// A transition as a watcher saw it.
type SeenTransition = (u64, ModelStatus);

/// A server on which models come and go, and an undisturbed watcher.
struct ChangingServer {
    server: TestServer,
    path: PathBuf,
    /// Where every watcher begins.
    token: String,
    /// A load for each of them; closed at the end.
    permits: Arc<Semaphore>,
    frequent_changes: JoinSet<Result<()>>,
    undisturbed: JoinSet<Result<Vec<SeenTransition>>>,
    random: fastrand::Rng,
}

impl ChangingServer {
    async fn start() -> Result<Self> {
        let seed = std::env::var("HANGAR_TESTS_SEED").ok();
        let seed = seed.map_or_else(|| Ok(fastrand::u64(..)), |seed| seed.parse())?;
        eprintln!("HANGAR_TESTS_SEED={seed}");
        let fixtures = Fixtures::new()?;
        let path = unusable(&fixtures)?;
        // Nobody is reset, however far behind the machine lets a watcher fall.
        let options = TestServer::scripted()
            .fixtures(&fixtures)
            .argument("--watch-ring")
            .argument("100000");
        let server = options.start().await?;
        let client = server.client.clone();
        fail(&client, "before", &path).await?;
        let mut watch = open(&client, of(&[])).await?;
        watch.snapshot().await?;
        let token = watch.token.clone();
        let mut undisturbed = JoinSet::new();
        undisturbed.spawn(watched(watch));
        let permits = Arc::new(Semaphore::new(0));
        let mut frequent_changes = JoinSet::new();
        let mut paths = vec![path.clone()];
        for name in ["a", "b"] {
            paths.push(fixtures.scripted(name, &Script::default())?);
        }
        for (n, path) in paths.into_iter().enumerate() {
            frequent_changes.spawn(change_repeatedly(client.clone(), n, path, permits.clone()));
        }
        Ok(Self {
            server,
            path,
            token,
            permits,
            frequent_changes,
            undisturbed,
            random: fastrand::Rng::with_seed(seed),
        })
    }

    /// Lets something happen, unless it is about to.
    fn allow_change(&self) {
        if self.permits.available_permits() == 0 {
            self.permits.add_permits(1);
        }
    }

    /// Lets the models come to rest and marks the end of the sequence.
    async fn finish(&mut self) -> Result<()> {
        self.permits.close();
        while let Some(end) = self.frequent_changes.join_next().await {
            end??;
        }
        fail(&self.server.client, MARKER, &self.path).await
    }

    /// Makes sure that both saw the same, and that the server keeps nothing of what was cut.
    async fn compare(&self, seen: &[SeenTransition], undisturbed: &[SeenTransition]) -> Result<()> {
        assert!(seen.len() > DISCONNECTS, "{} transitions", seen.len());
        assert_eq!(seen, undisturbed);
        let is_gone = || open_files(self.server.pid()).ok().filter(|open| *open < 40);
        eventually("the connections are gone", DEADLINE, is_gone).await?;
        Ok(())
    }

    /// What the undisturbed watcher saw, up to the mark.
    async fn undisturbed(&mut self) -> Result<Vec<SeenTransition>> {
        self.undisturbed.join_next().await.context("no watcher")??
    }
}

/// Loads a model for each permit: the first fails, the others are unloaded again.
async fn change_repeatedly(
    client: Client,
    n: usize,
    path: PathBuf,
    permits: Arc<Semaphore>,
) -> Result<()> {
    let name = format!("m{n}");
    while let Ok(permit) = permits.acquire().await {
        permit.forget();
        match n {
            0 => fail(&client, &name, &path).await?,
            _ => load_and_unload(&client, &name, &path).await?,
        }
    }
    Ok(())
}

fn is_end(status: &ModelStatus) -> bool {
    status.model_id == MARKER && status.state() == ModelState::Failed
}

/// Everything that a watch sees from here on, up to the mark.
async fn watched(mut watch: RawWatch) -> Result<Vec<SeenTransition>> {
    let mut seen = Vec::new();
    loop {
        let transition = watch.transition().await?;
        let status = transition.status.context("no status")?;
        let is_end = is_end(&status);
        seen.push((transition.revision, status));
        if is_end {
            return Ok(seen);
        }
    }
}

/// Takes a response for what it is to a watcher that resumes by hand.
fn take(
    response: WatchStatusResponse,
    token: &mut String,
    seen: &mut Vec<SeenTransition>,
) -> Result<()> {
    *token = response.resume_token;
    match response.event {
        Some(Event::Changed(changed)) if changed.kind() == ChangeKind::Transition => {
            seen.push((changed.revision, changed.status.context("no status")?));
        }
        Some(Event::Changed(_) | Event::Heartbeat(_)) => {}
        event => anyhow::bail!("the sequence broke off: {event:?}"),
    }
    Ok(())
}

/// Watches over a new connection, for a random number of responses or until it is cut. Says whether
/// there was a response.
async fn watch_for_a_while(
    changing: &mut ChangingServer,
    url: String,
    token: &mut String,
    seen: &mut Vec<SeenTransition>,
) -> Result<bool> {
    let Ok(channel) = Endpoint::from_shared(url)?.connect().await else {
        return Ok(false);
    };
    let answer = ModelServiceClient::new(channel)
        .watch_status(behind(token, &[]))
        .await;
    let Ok(answer) = answer else {
        return Ok(false);
    };
    let mut responses = answer.into_inner();
    let count = changing.random.usize(0..24);
    for n in 0..count {
        let max_wait = Duration::from_micros(changing.random.u64(0..4000));
        match timeout(max_wait, responses.message()).await {
            Ok(Ok(Some(response))) => take(response, token, seen)?,
            Ok(Ok(None)) => anyhow::bail!("the server ended the watch"),
            Ok(Err(_)) | Err(_) => return Ok(n > 0),
        }
    }
    Ok(count > 0)
}

#[hangar_tests::test]
async fn a_watcher_that_resumes_by_hand_misses_nothing() -> Result<()> {
    let mut changing = ChangingServer::start().await?;
    let cutter = Cutter::start(changing.server.listen(), changing.random.u64(..)).await?;
    let mut token = changing.token.clone();
    let mut seen = Vec::new();
    let mut disconnects = 0;
    while disconnects < DISCONNECTS {
        changing.allow_change();
        let was_open =
            watch_for_a_while(&mut changing, cutter.url(), &mut token, &mut seen).await?;
        disconnects += usize::from(was_open);
    }
    changing.finish().await?;
    let last = open(&changing.server.client, behind(&token, &[])).await?;
    seen.extend(watched(last).await?);
    let undisturbed = changing.undisturbed().await?;
    changing.compare(&seen, &undisturbed).await
}

#[hangar_tests::test]
async fn a_client_that_is_cut_off_resumes_by_itself_and_misses_nothing() -> Result<()> {
    let mut changing = ChangingServer::start().await?;
    let cutter = Cutter::start(changing.server.listen(), changing.random.u64(..)).await?;
    let client = Client::builder(cutter.url()).retry_delay(Duration::from_millis(1));
    let mut watch = client
        .connect_lazy()?
        .watch()
        .resume_token(&changing.token)
        .stream();
    let mut seen: Vec<SeenTransition> = Vec::new();
    let mut disconnects = 0;
    let mut was_open = false;
    changing.allow_change();
    while !seen.last().is_some_and(|(_, status)| is_end(status)) {
        let event = timeout(DEADLINE, watch.next()).await?;
        match event.context("the watch ended")?? {
            WatchEvent::Transition { revision, status } => {
                was_open = true;
                seen.push((revision, status));
            }
            WatchEvent::Disconnected { .. } => {
                changing.allow_change();
                if std::mem::take(&mut was_open) {
                    disconnects += 1;
                    if disconnects == DISCONNECTS {
                        changing.finish().await?;
                    }
                }
            }
            WatchEvent::Progress { .. } => was_open = true,
            WatchEvent::Heartbeat { .. } => {}
            event => anyhow::bail!("the sequence broke off: {event:?}"),
        }
    }
    assert!(disconnects >= DISCONNECTS, "the mark came early");
    let undisturbed = changing.undisturbed().await?;
    changing.compare(&seen, &undisturbed).await
}
