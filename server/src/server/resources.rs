//! What the fleet is made of, as the settings say.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::start_error::{StartError, system_error};
use crate::{
    catalog::Catalog,
    config::Settings,
    download::Downloads,
    lifecycle::{CudaWorker, Devices, LifecycleLimits, MemoryAdmission, ModelRoots, Resources},
    prepared::PreparedCache,
    status::EventLog,
    supervisor::Supervisor,
    system::SystemMonitor,
    telemetry::model_metrics::ModelMetrics,
    worker::{CommonConfig, Spawner, WorkerProgram},
};

/// What is left for the end of workers and connections when all time for draining is used up.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

pub(super) fn resources(
    settings: &Settings,
    catalog: Catalog,
    event_log: Arc<EventLog>,
    system: &Arc<SystemMonitor>,
    metrics: ModelMetrics,
    spawner: Spawner,
    supervisor: &Supervisor,
) -> Result<Resources, StartError> {
    let cache_dir = settings.data_dir.join("cache");
    let failed = system_error("cannot create the cache directory");
    std::fs::create_dir_all(&cache_dir).map_err(failed)?;
    let failed = system_error("cannot create the hub's cache directory");
    let downloads = Downloads::new(settings.hub.clone()).map_err(failed)?;
    let roots = ModelRoots::resolve(&settings.model_roots)?;
    Ok(Resources {
        catalog,
        event_log,
        roots: roots.with_repositories(settings.hub.repositories.clone()),
        downloads: Arc::new(downloads),
        program: WorkerProgram {
            path: settings.worker.clone(),
            environment: Vec::new(),
        },
        spawner,
        runtime_dir: settings.runtime_dir.clone(),
        prepared: prepared(settings, cache_dir.join("prepared"))?,
        worker_config: CommonConfig {
            cache_dir,
            otlp_endpoint: settings.otlp_endpoint.clone(),
            // At info the engine logs more than its host's log should hold, and it warns that a model without a template
            // of its own takes no messages, which is not for it to say: templates are rendered by the worker.
            log_filter: format!(
                "mistralrs=warn,mistralrs_core=warn,mistralrs_core::pipeline::paths=error,mistralrs_quant=warn,{}",
                settings.log
            ),
            trace_sample_ratio: settings.trace_sample_ratio,
        },
        memory: MemoryAdmission::new(system.clone(), settings.memory_limit),
        devices: Devices::new(
            system.clone(),
            CudaWorker {
                path: settings.worker_cuda.clone(),
                installed: settings.has_cuda_worker(),
            },
            settings.time_limits.gpu_driver,
        ),
        limits: limits(settings),
        supervisor: supervisor.clone(),
        metrics,
    })
}

/// The cache of prepared weights, if any are to be kept.
fn prepared(
    settings: &Settings,
    directory: PathBuf,
) -> Result<Option<Arc<PreparedCache>>, StartError> {
    if settings.prepared_cache_size == 0 {
        return Ok(None);
    }
    let cache = PreparedCache::open(directory, settings.prepared_cache_size);
    cache.map(Some).map_err(|cause| StartError::System {
        what: "cannot create the directory of prepared weights",
        cause,
    })
}

fn limits(settings: &Settings) -> LifecycleLimits {
    let left = settings.time_limits.shutdown.saturating_sub(
        settings.time_limits.kill * 2 + settings.time_limits.device_release + MARGIN,
    );
    LifecycleLimits {
        concurrent_loads: settings.max_concurrent_loads,
        concurrent_device_loads: settings.max_concurrent_device_loads,
        device_release_timeout: settings.time_limits.device_release,
        load_timeout: settings.time_limits.load,
        memory_high_watermark: settings.memory_high_watermark,
        max_concurrency: settings.default_max_concurrency,
        max_queue: settings.default_max_queue,
        ready_timeout: settings.time_limits.ready,
        kill_timeout: settings.time_limits.kill,
        hang_timeout: settings.time_limits.hang,
        spin_timeout: settings.time_limits.spin,
        spin_timeout_per_prompt_token: settings.time_limits.spin_per_prompt_token,
        max_spin_timeout: settings.time_limits.max_spin,
        stall_timeout: settings.time_limits.stall,
        stall_timeout_per_gib: settings.time_limits.stall_per_gib,
        drain_timeout: settings.time_limits.drain,
        shutdown_drain_timeout: left,
    }
}
