//! One model: what everybody sees of it, and how its driver is reached.
//!
//! Who writes what: the driver's publication alone writes the status, which the model shows; of the [`ModelFacts`], the entry
//! and whether the model is desired are written under the lock of the model (`desired_state`), with the catalog, and the rest by the
//! driver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    admission::{Gate, NotAdmitted, Permit},
    command::DriverCommand,
    driver_reply::DriverReply,
    file_watch::LoadedFiles,
    known_kind::KnownKind,
    usage::{HistorySample, RequestRecord, Totals, Usage, UsageReport},
};
use crate::{
    catalog::{CatalogEntry, LearnedFacts},
    model::{Failure, FatalPrompt, ModelId, Operation, Spec, StateKind, Status},
    status::StatusCell,
    telemetry::model_metrics::ModelMetrics,
};

/// A model: what is known of it, and the way to its worker.
#[derive(Debug)]
pub struct TrackedModel {
    id: ModelId,
    facts: ArcSwap<ModelFacts>,
    status: StatusCell,
    usage: Arc<Usage>,
    admitted: AtomicU64,
    settled: AtomicU64,
    pub(super) gate: Gate,
    /// The files that its worker was started with, where they can be watched.
    pub(super) files: ArcSwapOption<LoadedFiles>,
    commands: mpsc::Sender<DriverCommand>,
    /// Its last holder let go of it.
    released: Notify,
    /// Kills its worker, if there is one.
    pub(super) worker_kill: ArcSwapOption<CancellationToken>,
    /// Whether its driver was declared stuck, and has not heard of it.
    stuck: watch::Sender<bool>,
}

/// What is known of a model besides its status.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    /// How it is registered. What was learned is below.
    pub entry: CatalogEntry,
    /// What its loads have taught.
    pub learned: LearnedFacts,
    /// Whether it is to be loaded.
    pub desired: bool,
    /// What its worker was started with, if there is one.
    pub built: Option<Arc<Spec>>,
    /// How its files differ from those that its worker was started with, in words, where they were seen to.
    pub files_changed: Option<String>,
    /// Since when it has been READY, if it is.
    pub ready_since: Option<SystemTime>,
    /// A prompt that ended workers of it, if one did.
    pub fatal_prompt: Option<FatalPrompt>,
}

impl TrackedModel {
    pub(super) fn new(
        entry: CatalogEntry,
        commands: mpsc::Sender<DriverCommand>,
        metrics: ModelMetrics,
        status: StatusCell,
    ) -> Self {
        let id = entry.id.clone();
        let facts = ModelFacts::of(entry);
        Self {
            usage: Arc::new(Usage::new(id.clone(), metrics)),
            id,
            facts: ArcSwap::from_pointee(facts),
            status,
            admitted: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            gate: Gate::default(),
            files: ArcSwapOption::empty(),
            commands,
            released: Notify::new(),
            worker_kill: ArcSwapOption::empty(),
            stuck: watch::Sender::new(false),
        }
    }

    /// Its name.
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// What is known of it.
    pub fn facts(&self) -> Arc<ModelFacts> {
        self.facts.load_full()
    }

    /// Where it stands, as its driver published it last.
    pub fn status(&self) -> Arc<Status> {
        self.status.load()
    }

    /// Why it should be reloaded, by what there is now: its files are looked at for this. `None` also for one that is
    /// not READY.
    pub async fn reload_reason(&self) -> Option<String> {
        if self.status().state != StateKind::Ready {
            return None;
        }
        if let Some(reason) = self.facts().reload_reason() {
            return Some(reason.to_owned());
        }
        self.files.load_full()?.change().await
    }

    /// What it did.
    pub fn usage(&self) -> UsageReport {
        self.usage.report(self.status().memory)
    }

    /// What it did since the server started. Quicker than [`Self::usage`].
    pub fn totals(&self) -> Totals {
        self.usage.totals()
    }

    /// What it did in each minute of the last day in which it was loaded or used, oldest first.
    pub fn history(&self) -> Vec<HistorySample> {
        self.usage.history()
    }

    /// Adds what it did since the last sample to the history. Only the sampler does.
    pub(super) fn sample_history(&self) -> Option<HistorySample> {
        self.usage.sample(self.status().memory)
    }

    /// Puts samples of an earlier run of the server before those of this one.
    pub(super) fn restore_history(&self, earlier: Vec<HistorySample>) {
        self.usage.restore(earlier);
    }

    /// A request for it begins.
    pub fn begin_request(&self, operation: Operation) -> RequestRecord {
        self.usage.begin(operation)
    }

    /// Where it stands, with the requests that run and wait at this moment: those of [`Self::status`] are as old as what its
    /// driver published last.
    pub fn live_status(&self) -> Status {
        let occupancy = self.gate.occupancy();
        Status {
            in_flight: occupancy.running,
            queued: occupancy.waiting,
            ..Status::clone(&self.status())
        }
    }

    /// What it is for, as far as that is known.
    pub fn kind(&self) -> KnownKind {
        let facts = self.facts();
        let serves = self.status().state == StateKind::Ready;
        KnownKind::new(&facts.entry.spec, facts.learned.metadata.kind, serves)
    }

    /// Waits for the right to use its worker, the highest `priority` first. Safe to cancel.
    ///
    /// # Errors
    ///
    /// See [`NotAdmitted`].
    pub(super) async fn admit(&self, priority: i32) -> Result<Permit, NotAdmitted> {
        self.gate.admit(priority).await
    }

    /// As [`Self::admit`], for a call that the engine has no part in: requests that run do not stand
    /// against it.
    ///
    /// # Errors
    ///
    /// See [`NotAdmitted`].
    pub(super) async fn admit_without_engine(&self) -> Result<Permit, NotAdmitted> {
        self.gate.admit_without_engine().await
    }

    /// Whether it has a driver.
    pub(super) fn is_driven(&self) -> bool {
        !self.commands.is_closed()
    }

    /// Has its driver come to `command`, after all that were sent before. It is dropped, and with it the way for its reply,
    /// where the driver has gone, or no longer turns and has no room in its queue.
    pub(super) async fn send(&self, command: DriverCommand) {
        let Err(TrySendError::Full(command)) = self.commands.try_send(command) else {
            return;
        };
        let mut stuck = self.stuck.subscribe();
        tokio::select! {
            _ = self.commands.send(command) => {}
            _ = stuck.wait_for(|stuck| *stuck) => {}
        }
    }

    /// The `reply` of its driver to a command that it was sent.
    pub(super) fn reply<T>(&self, reply: oneshot::Receiver<T>) -> DriverReply<T> {
        DriverReply::new(reply, self.stuck.subscribe())
    }

    /// As [`Self::send`], for the command that `command` makes of the way for its reply. That is still to be waited for.
    pub(super) async fn send_for_reply<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> DriverCommand,
    ) -> DriverReply<T> {
        let (sender, reply) = oneshot::channel();
        self.send(command(sender)).await;
        self.reply(reply)
    }

    /// As [`Self::send_for_reply`], and waits for the reply. `None`: its driver has gone, or no longer turns.
    pub(super) async fn send_and_wait<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> DriverCommand,
    ) -> Option<T> {
        self.send_for_reply(command).await.wait().await
    }

    /// Nobody holds it any more: its driver unloads it, unless somebody wants it by then.
    pub(super) fn release(&self) {
        self.released.notify_one();
    }

    /// Waits until nobody holds it any more. Only its driver does. Safe to cancel.
    pub(super) async fn released(&self) {
        self.released.notified().await;
    }

    /// Its driver no longer turns: whoever uses it or waits for it is told so, and its worker is killed. The driver fails it as soon as
    /// it turns again.
    pub(super) fn declare_stuck(&self) {
        self.stuck.send_replace(true);
        self.gate.cut_off_all(&Failure::of_panicked_task());
        if let Some(kill) = self.worker_kill.load_full() {
            kill.cancel();
        }
        tracing::error!(model = %self.id, "a model's driver no longer turns; the model fails");
    }

    /// Whether its driver was declared stuck since the last call of this. Only the driver calls it.
    pub(super) fn was_declared_stuck(&self) -> bool {
        self.stuck.send_if_modified(std::mem::take)
    }

    /// Changes what is known. Only the driver and the `desired_state` do, and never the same fields.
    pub(super) fn update_facts(&self, mut change: impl FnMut(&mut ModelFacts)) {
        self.facts.rcu(|facts| {
            let mut facts = ModelFacts::clone(facts);
            change(&mut facts);
            facts
        });
    }

    /// What it may hold before that is more than was admitted, if its worker holds anything.
    pub(super) fn admitted(&self) -> Option<u64> {
        let admitted = self.admitted.load(Ordering::Relaxed);
        (admitted > 0).then_some(admitted)
    }

    /// It may hold so much; zero for nothing. Its worker is another one than before.
    pub(super) fn set_admitted(&self, bytes: u64) {
        self.settled.store(0, Ordering::Relaxed);
        self.admitted.store(bytes, Ordering::Relaxed);
    }

    /// What it held when it was loaded; zero until then.
    pub(super) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// It is loaded, and held so much then.
    pub(super) fn set_settled(&self, bytes: u64) {
        self.settled.store(bytes, Ordering::Relaxed);
    }

    /// It is registered so. For who has locked the model.
    pub(super) fn set_entry(&self, entry: &CatalogEntry) {
        self.update_facts(|facts| facts.entry = entry.clone());
    }
}

impl ModelFacts {
    /// What is known of a model that nothing was done with yet.
    pub fn of(entry: CatalogEntry) -> Self {
        let prompts = entry.learned.prompts.as_ref();
        Self {
            fatal_prompt: prompts.and_then(|prompts| prompts.known_of(&entry.spec)),
            learned: entry.learned.clone(),
            desired: entry.desired,
            built: None,
            files_changed: None,
            ready_since: None,
            entry,
        }
    }

    /// Why the model should be reloaded, in words: its spec was changed in a way that needs it, or its files
    /// were.
    pub fn reload_reason(&self) -> Option<&str> {
        let built = self.built.as_ref()?;
        if !built.builds_the_same_as(&self.entry.spec) {
            return Some("its spec was changed in what the engine was built from");
        }
        self.files_changed.as_deref()
    }
}
