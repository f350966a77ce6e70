//! One model as everybody but its driver sees it.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::{
    admission::{Gate, Permit, Refusal},
    driver::Command,
    usage::{Operation, RequestRecord, Usage, UsageReport},
};
use crate::{
    catalog::Entry,
    model::{LoadRecord, Metadata, ModelId, Status},
    telemetry::model::ModelMetrics,
};

/// A model: what is known of it, and the way to its worker.
#[derive(Debug)]
pub struct Model {
    id: ModelId,
    facts: ArcSwap<Facts>,
    status: ArcSwap<Status>,
    usage: Arc<Usage>,
    pub(super) gate: Gate,
    pub(super) commands: mpsc::Sender<Command>,
}

/// What is known of a model besides its status.
#[derive(Clone, Debug)]
pub struct Facts {
    /// How it is registered.
    pub entry: Entry,
    /// What its files and its engine tell.
    pub metadata: Metadata,
    /// The last loads, newest first.
    pub recent_loads: VecDeque<LoadRecord>,
    /// Whether it was asked to be loaded.
    pub wanted: bool,
    /// Since when it has been READY, if it is.
    pub ready_since: Option<SystemTime>,
}

/// Loads that are remembered.
const RECENT_LOADS: usize = 8;

// === impl Model ===

impl Model {
    pub(super) fn new(
        entry: Entry,
        commands: mpsc::Sender<Command>,
        metrics: ModelMetrics,
    ) -> Self {
        let status = Status::unloaded(entry.id.clone());
        let id = entry.id.clone();
        let facts = Facts {
            entry,
            metadata: Metadata::default(),
            recent_loads: VecDeque::new(),
            wanted: false,
            ready_since: None,
        };
        Self {
            usage: Arc::new(Usage::new(id.clone(), metrics)),
            id,
            facts: ArcSwap::from_pointee(facts),
            status: ArcSwap::from_pointee(status),
            gate: Gate::default(),
            commands,
        }
    }

    /// Its name.
    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// What is known of it.
    pub fn facts(&self) -> Arc<Facts> {
        self.facts.load_full()
    }

    /// Where it stands, live figures included.
    pub fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    /// What it did.
    pub fn usage(&self) -> UsageReport {
        self.usage.report()
    }

    /// A request for it begins.
    pub fn begin_request(&self, operation: Operation) -> RequestRecord {
        self.usage.begin(operation)
    }

    /// Requests that run and that wait.
    pub fn crowd(&self) -> (u32, u32) {
        let crowd = self.gate.crowd();
        (crowd.running, crowd.waiting)
    }

    /// Waits for the right to use its worker. Safe to cancel.
    ///
    /// # Errors
    ///
    /// See [`Refusal`].
    pub async fn admit(&self) -> Result<Permit, Refusal> {
        self.gate.admit().await
    }

    /// As [`Self::admit`], for a call that the engine has no part in: requests that run do not stand
    /// against it.
    ///
    /// # Errors
    ///
    /// See [`Refusal`].
    pub async fn admit_aside(&self) -> Result<Permit, Refusal> {
        self.gate.admit_aside().await
    }

    pub(super) fn set_status(&self, status: Status) {
        self.status.store(Arc::new(status));
    }

    /// Changes what is known. Only the driver and the fleet do, and never the same fields.
    pub(super) fn learn(&self, change: impl Fn(&mut Facts)) {
        self.facts.rcu(|facts| {
            let mut facts = Facts::clone(facts);
            change(&mut facts);
            facts
        });
    }

    pub(super) fn record(&self, record: &LoadRecord) {
        self.learn(|facts| {
            facts.recent_loads.push_front(record.clone());
            facts.recent_loads.truncate(RECENT_LOADS);
        });
    }
}
