//! Which processes this server has started, and the end of those that it was handed.
//!
//! A process whose parent has gone becomes a child of process 1 of its container: for example the one in which a worker that
//! died had its grammars followed. Nobody else reaps it.

use std::{
    collections::BTreeMap,
    process,
    sync::{Arc, Weak},
};

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::process::Child;

use super::reading::children_of;

/// The processes that were started here and have owners, for the thread that starts them: none is begun while it looks.
#[derive(Debug, Default)]
pub(super) struct OwnedChildren(BTreeMap<u32, Weak<()>>);

/// A process that was started here, and that its owner reaps.
#[derive(Debug)]
pub(super) struct OwnedChild {
    pub(super) process: Child,
    _owned: Arc<()>,
}

impl OwnedChildren {
    /// `process` was started, and nobody but the owner of what this gives reaps it.
    pub(super) fn add(&mut self, process: Child) -> OwnedChild {
        self.0.retain(|_, owned| owned.strong_count() > 0);
        let owned = Arc::new(());
        if let Some(pid) = process.id() {
            self.0.insert(pid, Arc::downgrade(&owned));
        }
        OwnedChild {
            process,
            _owned: owned,
        }
    }

    /// Reaps the children of this process that have ended and that have no owner.
    pub(super) fn reap_others(&self) {
        for pid in children_of(process::id()) {
            let is_owned = self.0.get(&pid).is_some_and(|o| o.strong_count() > 0);
            if is_owned {
                continue;
            }
            let child = Pid::from_raw(pid.cast_signed());
            if let Ok(Some((pid, status))) = waitpid(child, WaitOptions::NOHANG) {
                let status = status.as_raw();
                tracing::debug!(pid = pid.as_raw_nonzero(), status, "reaped an orphan");
            }
        }
    }
}
