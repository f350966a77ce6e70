//! Looks at model files, each on a thread of its own, as a file system that hangs never ends one.
//!
//! Invariant: of each kind at most one look at a path is under way, and at most [`PLACES`] below one model root, those
//! that nobody waits for any more included. So what hangs takes one thread, however often it is asked, and a file system
//! all of which hangs takes a few, and none from other roots.

use std::{
    collections::HashMap,
    panic::resume_unwind,
    path::{self, Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

use crate::failpoint;

/// The file systems below the model roots, and all others, which count as one.
#[derive(Clone, Debug, Default)]
pub(super) struct FileSystems(Arc<Places>);

#[derive(Debug, Default)]
struct Places {
    roots: Vec<Root>,
    others: Looks,
}

/// A model root, as it was given and with all links resolved, both plain.
#[derive(Debug)]
struct Root {
    paths: [PathBuf; 2],
    looks: Looks,
}

/// Those of each kind.
#[derive(Debug, Default)]
struct Looks {
    checks: LooksOfAKind,
    loads: LooksOfAKind,
    comparisons: LooksOfAKind,
}

/// Places for looks of one kind.
#[derive(Debug)]
struct LooksOfAKind {
    all: Arc<Semaphore>,
    /// The one at each path, for as long as somebody has it or waits for it.
    paths: Mutex<HashMap<PathBuf, Weak<Semaphore>>>,
}

/// What a look needs to be under way.
type Place = [OwnedSemaphorePermit; 2];

/// What a look is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Look {
    /// A call is checked.
    Check,
    /// A worker is about to be started.
    Load,
    /// The files of a loaded model are compared with what they were.
    Compare,
}

/// How long several looks are waited for together.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimit {
    time: Duration,
    end: Instant,
}

/// A file system that did not answer in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresponsive {
    /// Where it was looked at.
    pub path: PathBuf,
    /// How long it was waited for, with all that was looked at before.
    pub waited: Duration,
}

/// Looks of one kind below one root at the same time.
const PLACES: usize = 8;

impl FileSystems {
    /// Those of `roots`, each as it was given and with all links resolved.
    pub(super) fn of(roots: impl IntoIterator<Item = [PathBuf; 2]>) -> Self {
        let root = |paths: [PathBuf; 2]| Root {
            paths: paths.map(|path| plain(&path)),
            looks: Looks::default(),
        };
        Self(Arc::new(Places {
            roots: roots.into_iter().map(root).collect(),
            others: Looks::default(),
        }))
    }

    /// What `work`, which looks at what is at `path` and nowhere else, comes to. It goes on when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// When it has not ended within `limit`, or not begun, as others hang there.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: Look,
        path: &Path,
        limit: TimeLimit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unresponsive> {
        let looking = async {
            let plain = plain(path);
            let place = self.looks(look, &plain).place(&plain).await;
            begin(look, path, place, work).await
        };
        match timeout_at(limit.end, looking).await.map(or_unwind) {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(_) => Err(Unresponsive {
                path: path.to_owned(),
                waited: limit.time,
            }),
        }
    }

    /// Those of the innermost root that `path`, which is plain, lies below.
    fn looks(&self, look: Look, path: &Path) -> &LooksOfAKind {
        let depth = |root: &Root| {
            let above = root.paths.iter().filter(|root| path.starts_with(root));
            above.map(|root| root.components().count()).max()
        };
        let roots = self.0.roots.iter();
        let innermost = roots
            .filter_map(|root| Some((depth(root)?, root)))
            .max_by_key(|(depth, _)| *depth);
        let looks = innermost.map_or(&self.0.others, |(_, root)| &root.looks);
        match look {
            Look::Check => &looks.checks,
            Look::Load => &looks.loads,
            Look::Compare => &looks.comparisons,
        }
    }
}

impl LooksOfAKind {
    /// Waits for a place at `path`. `None`: never, as they are not closed.
    async fn place(&self, path: &Path) -> Option<Place> {
        // Its own first: who waits for what hangs keeps no place from others.
        let own = self.own(path).acquire_owned().await.ok()?;
        Some([own, self.all.clone().acquire_owned().await.ok()?])
    }

    /// The one place at `path`.
    fn own(&self, path: &Path) -> Arc<Semaphore> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = paths.get(path).and_then(Weak::upgrade) {
            return own;
        }
        paths.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(1));
        paths.insert(path.to_owned(), Arc::downgrade(&own));
        own
    }
}

impl Default for LooksOfAKind {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(PLACES)),
            paths: Mutex::default(),
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

impl Look {
    /// Where tests can hold it up.
    fn failpoint(self) -> &'static str {
        match self {
            Self::Check => "look-to-check",
            Self::Load => "look-to-load",
            Self::Compare => "look-to-compare",
        }
    }
}

/// `path` from `/` on, with each `..` carried out on its name: where a link leads elsewhere, that is not seen, as nothing may be
/// looked at.
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
    look: Look,
    path: &Path,
    place: Option<Place>,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    spawn_blocking(move || {
        let _place = place;
        failpoint::pass(look.failpoint(), name.as_deref());
        work()
    })
}

/// What a look found. `None`: the runtime ends.
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
        systems.look(Look::Check, path.as_ref(), limit, || ()).await
    }

    /// Begins a check that hangs until what is given is dropped, and waits for it no longer.
    async fn hang(systems: &FileSystems, path: &str) -> SyncSender<()> {
        let (hold, held) = sync_channel::<()>(0);
        let work = move || {
            let _ = held.recv();
        };
        let given_up = systems.look(Look::Check, path.as_ref(), TimeLimit::new(AT_ONCE), work);
        let expected = Unresponsive {
            path: path.into(),
            waited: AT_ONCE,
        };
        assert_eq!(given_up.await, Err(expected));
        hold
    }

    async fn hang_everywhere(systems: &FileSystems, directory: &str) -> Vec<SyncSender<()>> {
        let mut hung = Vec::new();
        for n in 0..PLACES {
            hung.push(hang(systems, &format!("{directory}/{n}")).await);
        }
        hung
    }

    #[tokio::test]
    async fn a_root_that_hangs_takes_a_few_threads_and_none_of_others() {
        let systems = file_systems(&["/a", "/b"]);
        let hung = hang_everywhere(&systems, "/a").await;
        assert!(check(&systems, "/a/one-more", AT_ONCE).await.is_err());
        let places = systems.looks(Look::Check, "/a".as_ref()).all.clone();
        assert_eq!(places.available_permits(), 0);
        for (look, path) in [
            (Look::Load, "/a/m"),
            (Look::Compare, "/a/m"),
            (Look::Check, "/b/m"),
            (Look::Check, "/elsewhere/m"),
        ] {
            let limit = TimeLimit::new(EVER);
            let found = systems.look(look, path.as_ref(), limit, || 1).await;
            assert_eq!(found, Ok(1), "{look:?} {path}");
        }
        drop(hung);
        assert!(check(&systems, "/a/one-more", EVER).await.is_ok());
    }

    #[tokio::test]
    async fn a_path_that_hangs_takes_one_thread_and_none_from_its_root() {
        let systems = file_systems(&["/a"]);
        let mut hung = Vec::new();
        for n in 0..2 * PLACES {
            let same = ["/a/m", "/a/./n/../m"][n % 2];
            hung.push(hang(&systems, same).await);
        }
        let places = systems.looks(Look::Check, "/a".as_ref()).all.clone();
        assert_eq!(places.available_permits(), PLACES - 1);
        assert!(check(&systems, "/a/n", EVER).await.is_ok());
        drop(hung);
        assert!(check(&systems, "/a/m", EVER).await.is_ok());
    }

    #[tokio::test]
    async fn a_look_is_one_of_the_innermost_root() {
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
                    let places = &systems.looks(Look::Check, path.as_ref()).all;
                    let taken = places.available_permits() == 0;
                    assert_eq!(taken, root == innermost, "{directory} {path}");
                }
            }
        }
    }

    #[tokio::test]
    async fn paths_are_forgotten_that_nobody_looks_at() {
        let systems = file_systems(&["/a"]);
        for n in 0..100 {
            let path = format!("/a/{n}");
            assert!(check(&systems, &path, EVER).await.is_ok());
        }
        let looks = systems.looks(Look::Check, "/a".as_ref());
        let known = looks.paths.lock().expect("no panic").len();
        assert!(known <= PLACES + 1, "{known}");
    }
}
