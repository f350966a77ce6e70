//! The model's worker, from its start to its end.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    ModelDriver,
    resources::{HostedWorker, WorkerEvent},
    timers::Timer,
};
use crate::{
    catalog::{DeferredWrite, LoadAttempt},
    lifecycle::{
        admission::AdmissionQueue,
        command::Verification,
        worker_monitor::WorkerMonitor,
        worker_task::{WorkerLaunch, WorkerReport, WorkerTask},
    },
    model::{Failure, LoadId, Reason, StateKind, state::Event},
};

impl ModelDriver {
    pub(super) fn handle_worker_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Report(report) => self.handle_report(report),
            WorkerEvent::Memory(decision) => self.memory_decided(decision),
            WorkerEvent::Files(seen) => self.files_seen(seen),
            WorkerEvent::Drained => self.apply(Event::Drained),
        }
    }

    fn handle_report(&mut self, report: WorkerReport) {
        let Some(worker) = self.resources.worker_mut() else {
            return;
        };
        match report {
            WorkerReport::Files(files) => self.files_found(files),
            WorkerReport::Spawned { pid, heartbeat } => {
                let device = worker.gpu.as_ref().map(|on| {
                    let system = self.context.devices.system().clone();
                    (system, on.gpu.uuid.clone())
                });
                worker.monitor = Some(WorkerMonitor::new(pid, heartbeat, device));
                self.published.edit().worker_pid = Some(pid);
                self.publish_progress();
            }
            WorkerReport::Inspected { inspection, client } => {
                worker.client = Some(*client);
                worker.engine_concurrency = inspection.max_concurrency;
                self.record_metadata(inspection.metadata.clone());
                self.request_memory(inspection);
            }
            WorkerReport::EngineBuilt(metadata) => {
                self.record_metadata(*metadata);
                self.apply(Event::EngineBuilt);
            }
            WorkerReport::Warmed { context_length } => {
                let now = worker.monitor.as_mut().map(WorkerMonitor::memory_now);
                self.settle_memory(now);
                self.record_context(context_length);
                self.apply(Event::Warmed);
            }
            WorkerReport::Fault(failure) => self.fail(failure),
            WorkerReport::Exited(failure) => {
                worker.task = None;
                self.record_prompts(&failure);
                self.apply(Event::Exited {
                    failure,
                    restart: LoadId::random(),
                });
            }
        }
    }

    pub(super) fn spawn(&mut self) {
        let files = self.downloaded_files();
        let Some(placement) = self.resources.take_placement() else {
            return;
        };
        let spec = self.load.spec.clone();
        self.model
            .update_facts(|facts| facts.built = Some(spec.clone()));
        let attempt = self.state.load().map(|load| LoadAttempt {
            load_id: load.id.clone(),
            number: load.attempt,
        });
        let gpu = placement.gpu.as_ref().map(|on| &on.gpu);
        let launch = WorkerLaunch {
            attempt: attempt.clone(),
            span: self.load.span.clone(),
            ..WorkerLaunch::new(&self.context, self.model.id(), &spec, gpu, files)
        };
        let task = WorkerTask::start(&self.context, launch);
        let kill = Arc::new(task.kill_token());
        self.model.worker_kill.store(Some(kill));
        self.resources
            .host(HostedWorker::new(task, placement, attempt));
        self.drop_figures_of_other_places();
    }

    /// The attempt that is on disk has come to an end that the server saw.
    pub(super) fn end_attempt(&mut self) {
        let worker = self.resources.worker_mut();
        if let Some(attempt) = worker.and_then(|worker| worker.attempt.take()) {
            let write = DeferredWrite::AttemptEnded(attempt);
            self.context.catalog.defer_write(self.model.id(), write);
        }
    }

    /// What the worker holds is on its way back.
    pub(super) fn mark_leaving(&self) {
        if let Some(worker) = self.resources.worker() {
            worker.mark_leaving();
        }
    }

    pub(super) fn admit(&mut self) {
        let Some(worker) = self.resources.worker() else {
            return;
        };
        let Some(client) = worker.client.clone() else {
            return;
        };
        let defaults = self.model.facts().entry.spec.generation_defaults.clone();
        let limits = self.admission_limits(worker);
        let fatal = self.load.prompts.fatal();
        let queue = Arc::new(AdmissionQueue::new(client, defaults, limits, fatal));
        if let Some(worker) = self.resources.worker_mut() {
            worker.queue = Some(queue.clone());
        }
        self.model.gate.open(queue);
    }

    pub(super) fn cut_off(&mut self, failure: &Failure) {
        let ready = self.state.kind() == StateKind::Ready;
        let at_shutdown = failure.reason == Reason::ModelUnloaded && self.context.is_closing();
        let shutdown = at_shutdown.then(|| {
            let why = "the server is shutting down, and the request did not end in the time that it had; ask again";
            Failure::new(Reason::ShuttingDown, why)
        });
        self.cut_off_requests(shutdown.as_ref().unwrap_or(failure), ready);
    }

    /// Ends all requests with `failure`; so do newcomers while the model is still `ready` for watchers.
    pub(super) fn cut_off_requests(&self, failure: &Failure, ready: bool) {
        // A worker that is being killed serves nobody, but its model is READY until it has gone.
        if ready {
            self.model.gate.cut_off(failure.clone());
        } else {
            self.model.gate.close();
        }
        let worker = self.resources.worker();
        if let Some(queue) = worker.and_then(|worker| worker.queue.as_ref()) {
            queue.cut_off(failure.clone());
        }
    }

    pub(super) fn stop(&mut self) {
        self.mark_leaving();
        self.record_last_memory();
        let worker = self.resources.worker();
        if let Some(task) = worker.and_then(|worker| worker.task.as_ref()) {
            task.stop();
        }
        let limit = self.context.limits.kill_timeout;
        self.timers.set(Timer::Stop, Instant::now() + limit);
    }

    pub(super) fn kill(&mut self) {
        self.mark_leaving();
        self.record_last_memory();
        if let Some(worker) = self.resources.worker_mut() {
            worker.kill();
        }
        self.timers.clear(Timer::Stop);
        let limit = self.context.limits.kill_timeout;
        self.timers.set(Timer::Kill, Instant::now() + limit);
    }

    /// What the worker holds just before it goes.
    fn record_last_memory(&mut self) {
        let Some(worker) = self.resources.worker_mut() else {
            return;
        };
        if worker.stopping.began.is_some() {
            return;
        }
        worker.stopping.began = Some(Instant::now());
        if let Some(monitor) = &mut worker.monitor {
            worker.stopping.held = monitor.memory_now();
            self.observe_device();
        }
    }

    /// A reaped process has given back all host memory; a device is looked at.
    pub(super) fn verify(&mut self) {
        if !self.begin_release() {
            self.end_unload(Verification::Reaped, 0);
        }
    }

    /// No worker lives any more: what it had is given back, and what it taught is kept.
    pub(super) fn end_worker(&mut self) {
        self.end_attempt();
        let pid = self.published.upcoming().worker_pid;
        let Some(worker) = self.resources.take_worker() else {
            return;
        };
        self.record_peak(&worker);
        self.release_memory(*worker, pid);
        self.model.set_admitted(0);
        self.model.update_facts(|facts| {
            facts.built = None;
            facts.files_changed = None;
        });
        self.model.files.store(None);
        self.timers.clear(Timer::Stop);
        self.timers.clear(Timer::Kill);
        let status = self.published.edit();
        status.memory = None;
        status.kv_blocks = None;
        status.worker_pid = None;
    }
}
