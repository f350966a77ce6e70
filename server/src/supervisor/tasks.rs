//! Tasks that are spawned to be watched, and waited for together.

use std::{future::poll_fn, panic::AssertUnwindSafe, pin::pin, time::Duration};

use futures::FutureExt;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::task::TaskTracker;

use super::{
    Supervisor,
    failure::{TaskName, panic_message},
    liveness::{LivenessProbe, TaskOwner},
};
use crate::failpoint;

/// Tasks of one part of the server. Clones are the same tasks.
#[derive(Clone, Debug)]
pub struct Tasks {
    supervisor: Supervisor,
    tracker: TaskTracker,
}

/// The message of a panic.
type Panic = String;

impl Supervisor {
    /// Tasks to be waited for together.
    pub fn tasks(&self) -> Tasks {
        Tasks::new(self.clone())
    }
}

impl Tasks {
    fn new(supervisor: Supervisor) -> Self {
        Self {
            supervisor,
            tracker: TaskTracker::new(),
        }
    }

    /// Who watches them.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Runs a task that the server cannot do without: its panic is a task failure, and its end while the server does not stop.
    pub fn critical(
        &self,
        name: impl Into<TaskName>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let name = name.into();
        let probe = self.supervisor.liveness_probe(name.clone(), Duration::ZERO);
        self.spawn_with_probe(name, Some(probe), task, |supervisor, name, end| match end {
            Err(panic) => supervisor.task_failed(name, Some(panic)),
            Ok(()) if !supervisor.is_stopping() => supervisor.task_failed(name, None),
            Ok(()) => {}
        })
    }

    /// Runs a task that ends, and whose work the server cannot do without: its panic is a task failure.
    pub fn background(
        &self,
        name: impl Into<TaskName>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        self.spawn_with_probe(name.into(), None, task, fail_on_panic)
    }

    /// As [`Self::background`], for one that sees to one model. `stuck` is called, by another task, when it no longer turns,
    /// once until it turns again: the others go on, and so does the server.
    pub fn of_model(
        &self,
        name: impl Into<TaskName>,
        task: impl Future<Output = ()> + Send + 'static,
        stuck: impl Fn() + Send + Sync + 'static,
    ) -> JoinHandle<()> {
        let name = name.into();
        let supervisor = self.supervisor.clone();
        let owner = Some(TaskOwner::new(stuck));
        let probe = supervisor.0.probes.add(name.clone(), Duration::ZERO, owner);
        self.spawn_with_probe(name, Some(probe), task, fail_on_panic)
    }

    /// Runs a task that belongs to somebody, a model or a request, who is notified of its panic by `panicked`.
    pub fn owned(
        &self,
        name: impl Into<TaskName>,
        task: impl Future<Output = ()> + Send + 'static,
        panicked: impl FnOnce() + Send + 'static,
    ) -> JoinHandle<()> {
        self.spawn_with_probe(name.into(), None, task, |_, name, end| {
            if let Err(panic) = end {
                tracing::error!(task = %name, panic, "a task panicked");
                panicked();
            }
        })
    }

    /// Runs a task of a request, whose caller hears when what the task holds is dropped.
    pub fn request(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.isolated("request", task)
    }

    /// What `work` comes to, which goes on when its caller does not wait any more. `None`: it panicked.
    pub async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.request(async move {
            // Whoever asked may be gone.
            let _ = reply.send(work.await);
        });
        answer.await.ok()
    }

    /// Runs a task whose panic ends what the task holds, and nothing else: whoever is at the other end of that sees it.
    pub fn isolated(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        self.spawn(async move {
            let task = AssertUnwindSafe(with_faults(name, task)).catch_unwind();
            if let Err(panic) = task.await {
                tracing::error!(
                    task = name,
                    panic = panic_message(&*panic),
                    "a task panicked"
                );
            }
        })
    }

    /// How many have not ended.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// No more tasks come.
    pub fn close(&self) {
        self.tracker.close();
    }

    /// Waits until all have ended, once they are closed.
    pub async fn wait(&self) {
        self.tracker.wait().await;
    }

    /// Runs a task that is watched by `probe` as to whether it turns.
    fn spawn_with_probe(
        &self,
        name: TaskName,
        probe: Option<LivenessProbe>,
        task: impl Future<Output = ()> + Send + 'static,
        ended: impl FnOnce(&Supervisor, TaskName, Result<(), Panic>) + Send + 'static,
    ) -> JoinHandle<()> {
        let supervisor = self.supervisor.clone();
        probe.iter().for_each(LivenessProbe::pause);
        self.spawn(async move {
            let end = {
                let task = AssertUnwindSafe(with_faults(&name, task)).catch_unwind();
                let mut task = pin!(task);
                // A task that waits rests: it is stuck when it does not let go of its thread.
                let turns = poll_fn(|context| {
                    probe.iter().for_each(LivenessProbe::mark_alive);
                    let polled = task.as_mut().poll(context);
                    probe.iter().for_each(LivenessProbe::pause);
                    polled
                });
                turns.await.map_err(|panic| panic_message(&*panic))
            };
            drop(probe);
            ended(&supervisor, name, end);
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place: what is spawned here looks after its own panic"
    )]
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.tracker.spawn(task)
    }
}

/// A task may end, and not panic.
fn fail_on_panic(supervisor: &Supervisor, name: TaskName, end: Result<(), Panic>) {
    if let Err(panic) = end {
        supervisor.task_failed(name, Some(panic));
    }
}

/// `task`, with what is ordered to befall it.
async fn with_faults(name: &str, task: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        never = failpoint::meets(name, None) => match never {},
        () = task => {}
    }
}
