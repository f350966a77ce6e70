//! The memory of a model on the host and on its device: asked for, given to its worker, and measured.

use super::{ModelDriver, resources::WorkerMemory};
use crate::{
    lifecycle::{
        eviction::Evictor,
        ledger::with_headroom,
        memory::{MemoryNeed, Reservation},
        worker_monitor::WorkerMonitor,
    },
    model::{Failure, ModelMemory, StateKind, state::Event},
    worker::{self, Inspection},
};

impl ModelDriver {
    /// Asks for the memory that the model needs. The answer comes as an event of the resources.
    pub(super) fn request_memory(&mut self, inspection: Box<Inspection>) {
        let spec = &self.load.spec;
        let learned = &self.model.facts().learned;
        let gpu = self.resources.gpu().map(|on| on.gpu.clone());
        let need = self.context.need(spec, learned, gpu, &inspection);
        let evictor = Evictor::for_model(&self.context, spec.priority, self.load.may_evict);
        let memory = self.context.memory.clone();
        let id = self.model.id().clone();
        if let Some(worker) = self.resources.worker_mut() {
            worker.memory = WorkerMemory::Requested {
                inspection,
                decision: Box::pin(memory.admit(id, need, evictor)),
            };
        }
    }

    /// The memory was given, or not.
    pub(super) fn memory_decided(&mut self, decision: Result<Reservation, Failure>) {
        let Some(worker) = self.resources.worker_mut() else {
            return;
        };
        let inspection = worker.memory.cancel_request();
        let event = match decision {
            Ok(reservation) => {
                let admitted = reservation.admitted();
                self.model.set_admitted(admitted);
                worker.reserve(reservation);
                if let Some(inspection) = inspection {
                    if let Some(monitor) = &mut worker.monitor {
                        monitor.begin_load(&inspection);
                    }
                    self.confine(admitted, &inspection);
                }
                Event::Inspected
            }
            Err(failure) => Event::Fault(failure),
        };
        self.apply(event);
    }

    /// Lets the worker have what was admitted and no more: what goes beyond fails there, and nowhere else.
    fn confine(&self, admitted: u64, inspection: &Inspection) {
        let Some(pid) = self.published.upcoming().worker_pid else {
            return;
        };
        if self.resources.gpu().is_some() {
            // CUDA maps far more than it uses.
            return;
        }
        // What the last worker held says what to expect, not what this one may come to need.
        let hint = self.load.spec.memory_hint;
        let hinted = hint.is_some_and(|hint| hint.host_bytes > 0);
        let inspected = if hinted {
            0
        } else {
            with_headroom(self.may_need(inspection))
        };
        if let Err(error) = worker::limit_memory(pid, admitted.max(inspected)) {
            tracing::warn!(model = %self.model.id(), %error, "cannot limit the worker's memory");
        }
    }

    /// What the worker may come to need by its `inspection`: with room for the longest sequence where that is free now.
    fn may_need(&self, inspection: &Inspection) -> u64 {
        let Inspection {
            need_host_bytes,
            roomy_host_bytes,
            ..
        } = *inspection;
        let room = MemoryNeed {
            host: roomy_host_bytes.saturating_sub(need_host_bytes),
            device: None,
        };
        match self.context.memory.fits(&room) {
            true => roomy_host_bytes,
            false => need_host_bytes,
        }
    }

    /// Takes note of what the worker was seen to hold.
    pub(super) fn record_memory(&mut self, memory: ModelMemory) {
        self.published.edit().memory = Some(memory);
        let with_footprint = self.with_footprint(memory);
        let state = self.state.kind();
        let Some(worker) = self.resources.worker_mut() else {
            return;
        };
        if let Some(reservation) = worker.memory.reservation() {
            reservation.measure(with_footprint);
        }
        if state.is_loading() || state == StateKind::Ready {
            // What its grammars take says nothing of the model.
            let own = worker.monitor.as_ref().map(WorkerMonitor::own_bytes);
            let own = own.unwrap_or(memory.host_bytes);
            let peak = &mut worker.peak;
            peak.host_bytes = peak.host_bytes.max(own);
            peak.device_bytes = peak.device_bytes.max(with_footprint.device_bytes);
        }
    }

    /// The model is loaded, and its worker was seen to hold this `now`: that is what it has reserved from now on.
    pub(super) fn settle_memory(&mut self, now: Option<ModelMemory>) {
        if let Some(memory) = now {
            self.record_memory(memory);
        }
        self.record_device_use();
        let Some(memory) = self.published.upcoming().memory else {
            return;
        };
        self.record_memory(memory);
        self.model.set_settled(memory.host_bytes);
        let worker = self.resources.worker();
        if let Some(reservation) = worker.and_then(|worker| worker.memory.reservation()) {
            reservation.settle(self.with_footprint(memory));
        }
    }

    /// `memory`, with all that the model has of its device.
    fn with_footprint(&self, memory: ModelMemory) -> ModelMemory {
        ModelMemory {
            device_bytes: self.device_footprint(memory.device_bytes),
            ..memory
        }
    }
}
