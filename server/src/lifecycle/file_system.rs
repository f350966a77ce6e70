//! Looks at model files, each on a thread of its own, as a file system that hangs never ends one.
//!
//! Invariant: of each kind at most one look at a path is under way, and at most [`PLACES`] below one model root, those
//! that nobody waits for any more included. So what hangs takes one thread, however often it is asked, and a file system
//! all of which hangs takes a few, and none from other roots.

use std::{
    collections::HashMap,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinHandle, spawn_blocking},
    time::timeout,
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

/// A model root, as it was given and with all links resolved.
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

/// A file system that did not answer in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresponsive {
    /// Where it was looked at.
    pub path: PathBuf,
    /// How long its answer was waited for.
    pub waited: Duration,
}

/// Looks of one kind below one root at the same time.
const PLACES: usize = 8;

impl FileSystems {
    /// Those of `roots`, each as it was given and with all links resolved.
    pub(super) fn of(roots: impl IntoIterator<Item = [PathBuf; 2]>) -> Self {
        let root = |paths| Root {
            paths,
            looks: Looks::default(),
        };
        Self(Arc::new(Places {
            roots: roots.into_iter().map(root).collect(),
            others: Looks::default(),
        }))
    }

    /// What `work`, which looks at what is at `path`, comes to. It goes on when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// When it has not ended within `limit`, or not begun, as others hang there.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: Look,
        path: &Path,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unresponsive> {
        let looking = async {
            let place = self.looks(look, path).place(path).await;
            begin(look, path, place, work).await
        };
        match timeout(limit, looking).await.map(or_unwind) {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(_) => Err(Unresponsive {
                path: path.to_owned(),
                waited: limit,
            }),
        }
    }

    /// Begins `work` as [`Self::look`] does, if there is a place for it now.
    pub(super) fn try_look<T: Send + 'static>(
        &self,
        look: Look,
        path: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<JoinHandle<T>> {
        let place = self.looks(look, path).try_place(path)?;
        Some(begin(look, path, Some(place), work))
    }

    fn looks(&self, look: Look, path: &Path) -> &LooksOfAKind {
        let lies_below = |root: &&Root| root.paths.iter().any(|root| path.starts_with(root));
        let root = self.0.roots.iter().find(lies_below);
        let looks = root.map_or(&self.0.others, |root| &root.looks);
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

    fn try_place(&self, path: &Path) -> Option<Place> {
        let own = self.own(path).try_acquire_owned().ok()?;
        Some([own, self.all.clone().try_acquire_owned().ok()?])
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

    fn file_systems() -> FileSystems {
        let root = |path: &str| [PathBuf::from(path), PathBuf::from(path)];
        FileSystems::of([root("/a"), root("/b")])
    }

    /// A look that hangs until what is given is dropped.
    fn hang(systems: &FileSystems, path: &str) -> Option<SyncSender<()>> {
        let (hold, held) = sync_channel::<()>(0);
        let hung = systems.try_look(Look::Check, path.as_ref(), move || {
            let _ = held.recv();
        });
        hung.map(|_| hold)
    }

    #[tokio::test]
    async fn a_root_that_hangs_takes_a_few_threads_and_none_of_others() {
        let systems = file_systems();
        let hung: Vec<_> = (0..PLACES)
            .map_while(|n| hang(&systems, &format!("/a/{n}")))
            .collect();
        assert_eq!(hung.len(), PLACES);
        assert!(hang(&systems, "/a/one-more").is_none());
        let one_more: &Path = "/a/one-more".as_ref();
        let refused = systems.look(Look::Check, one_more, AT_ONCE, || ()).await;
        let expected = Unresponsive {
            path: one_more.to_owned(),
            waited: AT_ONCE,
        };
        assert_eq!(refused, Err(expected));
        for (look, path) in [
            (Look::Load, "/a/m"),
            (Look::Compare, "/a/m"),
            (Look::Check, "/b/m"),
            (Look::Check, "/elsewhere/m"),
        ] {
            let found = systems.look(look, path.as_ref(), EVER, || 1).await;
            assert_eq!(found, Ok(1), "{look:?} {path}");
        }
        drop(hung);
        let found = systems.look(Look::Check, one_more, EVER, || 1).await;
        assert_eq!(found, Ok(1));
    }

    #[tokio::test]
    async fn a_path_that_hangs_takes_one_thread_and_none_from_its_root() {
        let systems = file_systems();
        let mut hung = Vec::new();
        for _ in 0..2 * PLACES {
            let (hold, held) = sync_channel::<()>(0);
            hung.push(hold);
            let work = move || {
                let _ = held.recv();
            };
            // That nobody waits for it does not end it.
            let given_up = systems.look(Look::Check, "/a/m".as_ref(), AT_ONCE, work);
            assert_eq!(given_up.await.map_err(|hung| hung.path), Err("/a/m".into()));
        }
        assert!(hang(&systems, "/a/m").is_none());
        let neighbours = (1..PLACES).map_while(|n| hang(&systems, &format!("/a/{n}")));
        assert_eq!(neighbours.collect::<Vec<_>>().len(), PLACES - 1);
        drop(hung);
        let found = systems.look(Look::Check, "/a/m".as_ref(), EVER, || 1);
        assert_eq!(found.await, Ok(1));
    }

    #[tokio::test]
    async fn paths_are_forgotten_that_nobody_looks_at() {
        let systems = file_systems();
        for n in 0..100 {
            let path = format!("/a/{n}");
            let found = systems.look(Look::Check, path.as_ref(), EVER, || 1);
            assert_eq!(found.await, Ok(1));
        }
        let looks = systems.looks(Look::Check, "/a".as_ref());
        let known = looks.paths.lock().expect("no panic").len();
        assert!(known <= PLACES + 1, "{known}");
    }
}
