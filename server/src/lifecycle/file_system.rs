//! Looks at model files, each on a thread of its own, as a file system that hangs never ends one.
//!
//! Invariant: below one model root at most [`PLACES`] looks of a kind are under way, those that nobody waits for any more
//! included. So a file system that hangs takes a few threads, however often it is asked, and none from other roots.

use std::{
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
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

/// Places for looks of each kind.
#[derive(Debug)]
struct Looks {
    checks: Arc<Semaphore>,
    loads: Arc<Semaphore>,
    comparisons: Arc<Semaphore>,
}

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
        let places = self.places(look, path);
        let looking = async {
            // They are never closed.
            let place = places.acquire_owned().await.ok();
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
        let place = self.places(look, path).try_acquire_owned().ok()?;
        Some(begin(look, path, Some(place), work))
    }

    fn places(&self, look: Look, path: &Path) -> Arc<Semaphore> {
        let lies_below = |root: &&Root| root.paths.iter().any(|root| path.starts_with(root));
        let root = self.0.roots.iter().find(lies_below);
        let looks = root.map_or(&self.0.others, |root| &root.looks);
        let places = match look {
            Look::Check => &looks.checks,
            Look::Load => &looks.loads,
            Look::Compare => &looks.comparisons,
        };
        places.clone()
    }
}

impl Default for Looks {
    fn default() -> Self {
        let places = || Arc::new(Semaphore::new(PLACES));
        Self {
            checks: places(),
            loads: places(),
            comparisons: places(),
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
    place: Option<OwnedSemaphorePermit>,
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
    async fn a_look_that_nobody_waits_for_keeps_its_place() {
        let systems = file_systems();
        let mut hung = Vec::new();
        for _ in 0..PLACES {
            let (hold, held) = sync_channel::<()>(0);
            hung.push(hold);
            let work = move || {
                let _ = held.recv();
            };
            let given_up = systems.look(Look::Check, "/a/m".as_ref(), AT_ONCE, work);
            assert!(given_up.await.is_err());
        }
        assert!(hang(&systems, "/a/m").is_none());
    }
}
