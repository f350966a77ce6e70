//! A model hub on loopback that speaks as much of the Hugging Face protocol as downloads need.
//!
//! What it serves is given by the tests, and so is what goes wrong. Each fault is used once, by the next
//! request for the contents of its file; after that the hub behaves.

mod body;
mod routes;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use axum::body::Bytes;
use hangar_client::v1::{HuggingFaceSource, ModelSpec, RestartMode, model_source::Source};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use crate::server::{TestServerBuilder, restarting};

/// A running hub. Dropping it closes its port.
#[derive(Debug)]
pub struct TestHub {
    address: SocketAddr,
    state: Arc<HubState>,
    _server: JoinSet<()>,
}

/// What goes wrong with one request for a file.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The contents wait at each of these bytes until [`TestHub::release`].
    Hold(Vec<u64>),
    /// After so many bytes of the answer nothing comes any more.
    Stall(u64),
    /// After so many bytes of the answer the connection breaks off.
    Break(u64),
    /// The answer has this status.
    Status(u16),
    /// All bytes of the answer are others.
    Corrupt,
    /// The file has so many bytes more than was announced.
    Longer(usize),
    /// The range that was asked for is ignored: all comes.
    Whole,
    /// The contents are at this hub.
    Redirect(String),
}

/// A request that the hub got.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Method and path.
    pub line: String,
    /// Authorization header.
    pub authorization: Option<String>,
    /// First byte that was asked for.
    pub from: u64,
    /// Bytes of contents that were handed to the connection.
    pub served: u64,
}

/// What the hub knows.
#[derive(Debug)]
struct HubState {
    inner: Mutex<HubInner>,
    released: Semaphore,
}

#[derive(Debug, Default)]
struct HubInner {
    repositories: HashMap<String, Repository>,
    faults: HashMap<String, VecDeque<Fault>>,
    requests: Vec<Request>,
    token: Option<String>,
    without_sizes: bool,
    listing_status: VecDeque<u16>,
}

#[derive(Clone, Debug, Default)]
struct Repository {
    commit: String,
    files: BTreeMap<String, Bytes>,
    /// Files that are listed with a size that they do not have.
    announced: BTreeMap<String, u64>,
}

impl TestHub {
    /// A hub without repositories.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(HubState {
            inner: Mutex::default(),
            released: Semaphore::new(0),
        });
        let router = routes::router(state.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            state,
            _server: server,
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Options of a server that may load every repository of this hub.
    pub fn options(&self, options: TestServerBuilder) -> TestServerBuilder {
        options
            .argument("--hub-endpoint")
            .argument(self.url())
            .argument("--hub-repositories=*")
    }

    /// Puts the files of `directory` into a repository, as its newest commit, whose id is given.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn add(&self, repository: &str, directory: &Path) -> Result<String> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().context("a name")?.to_string_lossy();
            files.insert(name.into_owned(), Bytes::from(std::fs::read(&path)?));
        }
        Ok(self.put(repository, files))
    }

    /// Puts one file into a repository, as its newest commit, whose id is given.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn add_file(&self, repository: &str, name: &str, contents: Vec<u8>) -> String {
        let mut files = self
            .inner()
            .repositories
            .get(repository)
            .cloned()
            .unwrap_or_default()
            .files;
        files.insert(name.to_owned(), contents.into());
        self.put(repository, files)
    }

    /// Announces this size for a file, be it there or not.
    pub fn announce(&self, repository: &str, name: &str, size: u64) {
        let mut inner = self.inner();
        let repository = inner.repositories.entry(repository.to_owned()).or_default();
        repository.announced.insert(name.to_owned(), size);
    }

    /// From now on, lists have names only, as those of some mirrors do.
    pub fn lists_without_sizes(&self) {
        self.inner().without_sizes = true;
    }

    /// From now on, only requests with this token are answered.
    pub fn require(&self, token: &str) {
        self.inner().token = Some(token.to_owned());
    }

    /// The next list of files is refused with this status.
    pub fn refuse_list(&self, status: u16) {
        self.inner().listing_status.push_back(status);
    }

    /// Lets the next request for the contents of `file` meet this fault, behind those given before.
    pub fn fault(&self, file: &str, fault: Fault) {
        let mut inner = self.inner();
        inner
            .faults
            .entry(file.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// Lets one held answer go on.
    pub fn release(&self) {
        self.state.released.add_permits(1);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.inner().requests.clone()
    }

    /// The requests for the contents of `file`.
    pub fn requests_for(&self, file: &str) -> Vec<Request> {
        let end = format!("/{file}");
        let requests = self.requests().into_iter();
        requests
            .filter(|request| request.line.starts_with("GET") && request.line.ends_with(&end))
            .collect()
    }

    fn put(&self, repository: &str, files: BTreeMap<String, Bytes>) -> String {
        let mut digest = Sha256::new();
        for (name, contents) in &files {
            digest.update(name);
            digest.update(contents);
        }
        let commit: String = hex(&digest.finalize()).chars().take(40).collect();
        let mut inner = self.inner();
        let stored = inner.repositories.entry(repository.to_owned()).or_default();
        stored.commit.clone_from(&commit);
        stored.files = files;
        commit
    }

    fn inner(&self) -> MutexGuard<'_, HubInner> {
        self.state.inner()
    }
}

impl HubState {
    fn inner(&self) -> MutexGuard<'_, HubInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A spec for a repository, which is tried so many times in a row, at intervals of about 10 ms.
pub fn hub_spec(repository: &str, files: &[&str], attempts: u32) -> ModelSpec {
    let source = HuggingFaceSource {
        repository: repository.to_owned(),
        revision: String::new(),
        files: files.iter().map(ToString::to_string).collect(),
    };
    ModelSpec {
        source: Some(Source::HuggingFace(source).into()),
        ..restarting(Path::new("/"), RestartMode::OnFailure, attempts)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
