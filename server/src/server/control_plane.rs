//! What the ports serve: the models, their events, and health.

use std::sync::Arc;

use super::{
    resources::resources,
    start_error::{StartError, system_error},
};
use crate::{
    catalog::Catalog,
    config::Settings,
    health::Health,
    lifecycle::{Fleet, HistorySampling, TrackedModel},
    rpc::declared,
    status::EventLog,
    supervisor::Supervisor,
    system::{DeviceMonitor, Nvml, SystemMonitor},
    telemetry::{
        Telemetry,
        cache::observe_cache,
        model_metrics::{MemorySample, ModelMetrics, ModelSample, observe_models},
    },
    worker::Spawner,
};

/// The parts of a server that know nothing of ports.
pub(super) struct ControlPlane {
    pub(super) catalog: Catalog,
    pub(super) fleet: Arc<Fleet>,
    pub(super) event_log: Arc<EventLog>,
    pub(super) health: Arc<Health>,
    pub(super) system: Arc<SystemMonitor>,
    pub(super) metrics: ModelMetrics,
    pub(super) supervisor: Supervisor,
}

impl ControlPlane {
    /// Tracks all models; none is loaded yet.
    pub(super) async fn start(
        settings: &Settings,
        telemetry: &Telemetry,
        catalog: Catalog,
        spawner: Spawner,
        supervisor: Supervisor,
    ) -> Result<Self, StartError> {
        let event_log = EventLog::new(settings.watch_ring);
        let meter = telemetry.meter();
        let metrics = ModelMetrics::new(&meter);
        let devices = DeviceMonitor::start(Nvml::open, &supervisor)
            .map_err(system_error("cannot start a thread"))?;
        let system = SystemMonitor::new(settings.data_dir.clone()).with_devices(devices);
        let system = Arc::new(system);
        let fleet = Fleet::new(resources(
            settings,
            catalog.clone(),
            event_log.clone(),
            &system,
            metrics.clone(),
            spawner,
            &supervisor,
        )?);
        fleet.declare(declared(&settings.models)?).await?;
        fleet.track_all(catalog.summaries().await?);
        if let Some(cache) = fleet.prepared() {
            observe_cache(&meter, cache);
        }
        let sampled = fleet.clone();
        observe_models(&meter, Arc::new(move || samples(&sampled)));
        let health = Health::new(
            fleet.clone(),
            event_log.clone(),
            supervisor.clone(),
            settings.readiness,
        );
        Ok(Self {
            catalog,
            fleet,
            event_log,
            health,
            system,
            metrics,
            supervisor,
        })
    }

    /// Starts to look whether the tasks still turn.
    pub(super) fn watch_tasks(&self) -> Result<(), StartError> {
        let event_log = self.event_log.clone();
        let clock = self.supervisor.clock();
        let clock = clock.map_err(system_error("cannot start a thread"))?;
        let watching = self
            .supervisor
            .clone()
            .watch(clock, move || event_log.touch());
        self.supervisor.tasks().critical("liveness", watching);
        Ok(())
    }

    /// Starts to write the models' histories.
    pub(super) fn sample_history(&self, settings: &Settings) -> HistorySampling {
        let tasks = self.supervisor.tasks();
        self.fleet.sample_history(settings.history_interval, &tasks)
    }
}

/// All models as metrics show them.
fn samples(fleet: &Fleet) -> Vec<ModelSample> {
    let sample = |model: &Arc<TrackedModel>| {
        let status = model.live_status();
        let totals = model.totals();
        let learned = model.facts().learned.pace.clone();
        ModelSample {
            model: model.id().to_string(),
            state: status.state,
            memory: status.memory.map(|m| MemorySample {
                host: m.host_bytes,
                device: m.device_bytes,
            }),
            kv_blocks: status
                .kv_blocks
                .map(|blocks| (blocks.used.into(), blocks.total.into())),
            in_flight: status.in_flight.into(),
            queued: status.queued.into(),
            restarts: status.restarts,
            prompt_tokens: totals.prompt_tokens,
            completion_tokens: totals.completion_tokens,
            pace: learned.map(|learned| learned.pace).unwrap_or_default(),
        }
    };
    fleet.all().iter().map(sample).collect()
}
