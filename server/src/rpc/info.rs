//! GetInfo: one snapshot of everything.

mod devices;
mod metrics;
mod registered;
mod snapshot;

use std::time::{Duration, Instant, SystemTime};

use devices::{DeviceHolding, devices};
use hangar_client::v1::{
    CacheInfo, DesiredState, LoadRecord, ModelInfo, ModelMetrics, ServerInfo, SystemInfo,
};
pub(super) use registered::RegisteredModels;
pub(super) use snapshot::Sources;

use crate::{
    catalog::LearnedFacts,
    lifecycle::{Fleet, Holder, ModelFacts, TrackedModel},
    model::{StateKind, Status},
    prepared::PreparedCache,
    rpc::convert,
    system, version, wire,
};

/// When this run of the server began.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerStart {
    pub(super) at: SystemTime,
    pub(super) clock: Instant,
}

/// How much to say of each model.
#[derive(Clone, Copy, Debug)]
struct Detail {
    full: bool,
    metrics: bool,
    history: bool,
}

/// Name of the engine.
const ENGINE: &str = "mistral.rs";

fn server(fleet: &Fleet, started: ServerStart, epoch: &str) -> ServerInfo {
    ServerInfo {
        version: version::VERSION.to_owned(),
        commit: version::COMMIT.to_owned(),
        engine: ENGINE.to_owned(),
        engine_version: fleet
            .engine_version()
            .map(|version| version.to_string())
            .unwrap_or_default(),
        start_time: Some(started.at.into()),
        uptime: wire::duration_message(started.clock.elapsed()),
        epoch: epoch.to_owned(),
        engine_kernels: fleet
            .engine_kernels()
            .map(|kernels| kernels.to_string())
            .unwrap_or_default(),
    }
}

/// The machine; `holding` are those models that hold memory.
fn system(sample: &system::SystemInfo, holding: &[Status]) -> SystemInfo {
    SystemInfo {
        cpu_cores: sample.cpu_cores,
        cpu_usage: sample.cpu_usage,
        memory_total_bytes: sample.memory_total_bytes,
        memory_available_bytes: sample.memory_available_bytes,
        memory_models_bytes: holding
            .iter()
            .filter_map(|s| s.memory)
            .map(|m| m.host_bytes)
            .sum(),
        disk_total_bytes: sample.disk_total_bytes,
        disk_available_bytes: sample.disk_available_bytes,
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        memory_server_bytes: sample.memory_server_bytes,
        sampled_at: Some(sample.sampled.into()),
    }
}

fn cache(cache: &PreparedCache) -> CacheInfo {
    let report = cache.report();
    CacheInfo {
        directory: cache.directory().display().to_string(),
        size_bytes: report.size,
        entries: report.entries,
        hits: report.hits,
        misses: report.misses,
        hit_rate: metrics::rate(report.hits, report.hits + report.misses),
    }
}

/// What is known of a model, which stands as `status` says; `model` if it is tracked.
fn model(
    facts: &ModelFacts,
    model: Option<&TrackedModel>,
    status: &Status,
    holders: &[Holder],
    detail: Detail,
) -> ModelInfo {
    let last_used = model.and_then(|model| model.totals().last_used);
    let learned = &facts.learned;
    let history = |model: &TrackedModel| model.history().iter().map(metrics::sample).collect();
    ModelInfo {
        model_id: facts.entry.id.to_string(),
        aliases: texts(&facts.entry.aliases),
        status: Some(convert::status(status)),
        metadata: Some(convert::metadata_message(
            &learned.metadata,
            &facts.entry.spec.source,
            last_used.or(learned.last_used),
        )),
        metrics: detail.metrics.then(|| model_metrics(model, facts, status)),
        spec: detail.full.then(|| wire::spec_message(&facts.entry.spec)),
        desired_state: desired_state(facts).into(),
        suspend_reason: convert::suspend_reason(status.suspended.as_ref()).into(),
        holders: texts(holders),
        recent_loads: recent_loads(learned, detail),
        version: facts.entry.version,
        etag: facts.entry.etag.0.clone(),
        reload_required: facts.reload_reason().is_some(),
        reload_reason: facts.reload_reason().unwrap_or_default().to_owned(),
        history: model
            .filter(|_| detail.history)
            .map(history)
            .unwrap_or_default(),
        learned: Some(convert::learned(learned)),
        fatal_prompt: facts.fatal_prompt.map(convert::fatal_prompt),
    }
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn desired_state(facts: &ModelFacts) -> DesiredState {
    if facts.desired {
        DesiredState::Loaded
    } else {
        DesiredState::Unloaded
    }
}

fn model_metrics(
    model: Option<&TrackedModel>,
    facts: &ModelFacts,
    status: &Status,
) -> ModelMetrics {
    let ready_since = facts
        .ready_since
        .filter(|_| status.state == StateKind::Ready);
    ModelMetrics {
        uptime: ready_since.and_then(since).and_then(wire::duration_message),
        ..metrics::metrics(&model.map(TrackedModel::usage).unwrap_or_default(), status)
    }
}

fn recent_loads(learned: &LearnedFacts, detail: Detail) -> Vec<LoadRecord> {
    if !detail.full {
        return Vec::new();
    }
    let loads = learned.recent_loads.iter();
    loads.map(convert::load_record).collect()
}

/// A clock that was set back gives no length of time.
fn since(time: SystemTime) -> Option<Duration> {
    time.elapsed().ok()
}
