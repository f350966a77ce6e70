//! Accesses to model files, each on a thread of its own, as a file system that hangs never ends one.
//!
//! Invariant: for each purpose at most one access to a path is under way, and at most [`MAX_CONCURRENT`] below one model
//! root, those that nobody waits for any more included. So what hangs takes one thread, however often it is asked, and a
//! file system all of which hangs takes a few, and none from other roots.

use std::{
    panic::resume_unwind,
    path::{self, Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

use crate::{
    failpoint,
    keyed_locks::{KeyGuard, KeyedLocks},
};

/// The file systems below the model roots, and all others, which count as one.
#[derive(Clone, Debug, Default)]
pub(super) struct FileSystems(Arc<FileSystemPools>);

#[derive(Debug, Default)]
struct FileSystemPools {
    roots: Vec<Root>,
    others: RootPools,
}

/// A model root, as it was given and with all links resolved, both plain.
#[derive(Debug)]
struct Root {
    paths: [PathBuf; 2],
    pools: RootPools,
}

/// The threads below one root, a pool for each purpose: what hangs for one keeps none from the others.
#[derive(Debug, Default)]
struct RootPools {
    validate: AccessPool,
    start: AccessPool,
    compare: AccessPool,
}

/// Bounds the accesses for one purpose.
#[derive(Debug)]
struct AccessPool {
    /// [`MAX_CONCURRENT`] permits, for all paths together.
    all: Arc<Semaphore>,
    /// The lock of each path.
    paths: KeyedLocks<PathBuf>,
}

/// What an access holds while it is under way: the lock of its path, and a permit of its pool.
type Permits = (KeyGuard, OwnedSemaphorePermit);

/// What an access is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum FsAccess {
    /// A call is checked.
    Validate,
    /// A worker is about to be started.
    Start,
    /// The files of a loaded model are compared with what they were.
    Compare,
}

/// The time that several steps have together: how long that is, and when it is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimit {
    pub(super) time: Duration,
    pub(super) end: Instant,
}

/// A file system that did not answer in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresponsive {
    /// The path that was accessed.
    pub path: PathBuf,
    /// How long it was waited for, with all accesses of the same limit before.
    pub waited: Duration,
}

/// Accesses for one purpose below one root at the same time.
const MAX_CONCURRENT: usize = 8;

impl FileSystems {
    /// Those of `roots`, each as it was given and with all links resolved.
    pub(super) fn of(roots: impl IntoIterator<Item = [PathBuf; 2]>) -> Self {
        let root = |paths: [PathBuf; 2]| Root {
            paths: paths.map(|path| plain(&path)),
            pools: RootPools::default(),
        };
        Self(Arc::new(FileSystemPools {
            roots: roots.into_iter().map(root).collect(),
            others: RootPools::default(),
        }))
    }

    /// The result of `work`, which accesses `path` and nothing else. It goes on when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// When it has not ended within `limit`, or not begun, as other accesses hang there.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        access: FsAccess,
        path: &Path,
        limit: TimeLimit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unresponsive> {
        let running = async {
            let plain = plain(path);
            let permits = self.pool(access, &plain).acquire(&plain).await;
            begin(access, path, permits, work).await
        };
        match timeout_at(limit.end, running).await.map(or_unwind) {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(_) => Err(Unresponsive {
                path: path.to_owned(),
                waited: limit.time,
            }),
        }
    }

    /// The pool of the innermost root that `path`, which is plain, lies below.
    fn pool(&self, access: FsAccess, path: &Path) -> &AccessPool {
        let depth = |root: &Root| {
            let above = root.paths.iter().filter(|root| path.starts_with(root));
            above.map(|root| root.components().count()).max()
        };
        let roots = self.0.roots.iter();
        let innermost = roots
            .filter_map(|root| Some((depth(root)?, root)))
            .max_by_key(|(depth, _)| *depth);
        let pools = innermost.map_or(&self.0.others, |(_, root)| &root.pools);
        match access {
            FsAccess::Validate => &pools.validate,
            FsAccess::Start => &pools.start,
            FsAccess::Compare => &pools.compare,
        }
    }
}

impl AccessPool {
    /// Waits for the permits of an access to `path`. `None`: never, as the semaphores are not closed.
    async fn acquire(&self, path: &Path) -> Option<Permits> {
        // That of the path first: who waits for a path that hangs keeps no permit from others.
        let own = self.paths.lock(path.to_owned()).await;
        Some((own, self.all.clone().acquire_owned().await.ok()?))
    }
}

impl Default for AccessPool {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            paths: KeyedLocks::default(),
        }
    }
}

impl TimeLimit {
    /// From now on.
    pub(super) fn new(time: Duration) -> Self {
        let end = Instant::now() + time;
        Self { time, end }
    }
}

impl FsAccess {
    /// Where tests can hold it up.
    fn failpoint(self) -> &'static str {
        match self {
            Self::Validate => "look-to-check",
            Self::Start => "look-to-load",
            Self::Compare => "look-to-compare",
        }
    }
}

/// `path` from `/` on, with each `..` carried out on its name: where a link leads elsewhere, that is not seen, as nothing may be
/// accessed.
fn plain(path: &Path) -> PathBuf {
    // It fails only for an empty path, or without a current directory.
    let path = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn begin<T: Send + 'static>(
    access: FsAccess,
    path: &Path,
    permits: Option<Permits>,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    spawn_blocking(move || {
        let _permits = permits;
        failpoint::pass(access.failpoint(), name.as_deref());
        work()
    })
}

/// The result of an access. `None`: the runtime ends.
fn or_unwind<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(found) => Some(found),
        Err(Ok(panic)) => resume_unwind(panic),
        Err(Err(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;
    const EVER: Duration = Duration::from_secs(3600);

    fn file_systems(roots: &[&str]) -> FileSystems {
        let root = |path: &&str| [PathBuf::from(path), PathBuf::from(path)];
        FileSystems::of(roots.iter().map(root))
    }

    async fn check(systems: &FileSystems, path: &str, limit: Duration) -> Result<(), Unresponsive> {
        let limit = TimeLimit::new(limit);
        systems
            .run(FsAccess::Validate, path.as_ref(), limit, || ())
            .await
    }

    /// Begins a check that hangs until what is given is dropped, and waits for it no longer.
    async fn hang(systems: &FileSystems, path: &str) -> SyncSender<()> {
        let (hold, held) = sync_channel::<()>(0);
        let work = move || {
            let _ = held.recv();
        };
        let given_up = systems.run(
            FsAccess::Validate,
            path.as_ref(),
            TimeLimit::new(AT_ONCE),
            work,
        );
        let expected = Unresponsive {
            path: path.into(),
            waited: AT_ONCE,
        };
        assert_eq!(given_up.await, Err(expected));
        hold
    }

    async fn hang_everywhere(systems: &FileSystems, directory: &str) -> Vec<SyncSender<()>> {
        let mut hung = Vec::new();
        for n in 0..MAX_CONCURRENT {
            hung.push(hang(systems, &format!("{directory}/{n}")).await);
        }
        hung
    }

    #[bounded::test]
    async fn a_root_that_hangs_takes_a_few_threads_and_none_of_others() {
        let systems = file_systems(&["/a", "/b"]);
        let hung = hang_everywhere(&systems, "/a").await;
        assert!(check(&systems, "/a/one-more", AT_ONCE).await.is_err());
        let pool = systems.pool(FsAccess::Validate, "/a".as_ref()).all.clone();
        assert_eq!(pool.available_permits(), 0);
        for (access, path) in [
            (FsAccess::Start, "/a/m"),
            (FsAccess::Compare, "/a/m"),
            (FsAccess::Validate, "/b/m"),
            (FsAccess::Validate, "/elsewhere/m"),
        ] {
            let limit = TimeLimit::new(EVER);
            let found = systems.run(access, path.as_ref(), limit, || 1).await;
            assert_eq!(found, Ok(1), "{access:?} {path}");
        }
        drop(hung);
        assert!(check(&systems, "/a/one-more", EVER).await.is_ok());
    }

    #[bounded::test]
    async fn a_path_that_hangs_takes_one_thread_and_none_from_its_root() {
        let systems = file_systems(&["/a"]);
        let mut hung = Vec::new();
        for n in 0..2 * MAX_CONCURRENT {
            let same = ["/a/m", "/a/./n/../m"][n % 2];
            hung.push(hang(&systems, same).await);
        }
        let pool = systems.pool(FsAccess::Validate, "/a".as_ref()).all.clone();
        assert_eq!(pool.available_permits(), MAX_CONCURRENT - 1);
        assert!(check(&systems, "/a/n", EVER).await.is_ok());
        drop(hung);
        assert!(check(&systems, "/a/m", EVER).await.is_ok());
    }

    #[bounded::test]
    async fn an_access_is_one_of_the_innermost_root() {
        let roots = ["/a", "/a/b", "/a/b/c/../d"];
        let hung = ["/a", "/a/b", "/a/b/../b", "/a/b/d", "/a/b/d/../../b/c"];
        let innermost = ["/a", "/a/b", "/a/b", "/a/b/d", "/a/b"];
        let neighbours = [("/a", "/a/m"), ("/a/b", "/a/b/m"), ("/a/b/d", "/a/b/d/m")];
        for reversed in [false, true] {
            let mut roots = roots;
            if reversed {
                roots.reverse();
            }
            for (directory, innermost) in hung.iter().zip(innermost) {
                let systems = file_systems(&roots);
                let _hung = hang_everywhere(&systems, directory).await;
                for (root, path) in neighbours {
                    let pool = &systems.pool(FsAccess::Validate, path.as_ref()).all;
                    let taken = pool.available_permits() == 0;
                    assert_eq!(taken, root == innermost, "{directory} {path}");
                }
            }
        }
    }
}
