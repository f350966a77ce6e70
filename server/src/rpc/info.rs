//! GetInfo: one snapshot of everything.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hangar_client::v1::{
    DesiredState, LatencyQuantiles, ModelInfo, ModelMetrics, ServerInfo, SystemInfo,
};

use crate::{
    config,
    lifecycle::{Fleet, Latency, Model},
    model::{Stage, Status},
    system, wire,
};

/// When this run of the server began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    pub(super) at: SystemTime,
    pub(super) clock: Instant,
}

/// How much to tell of each model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detail {
    pub(super) full: bool,
    pub(super) metrics: bool,
}

/// Name of the engine.
const ENGINE: &str = "mistral.rs";

pub(super) fn server(fleet: &Fleet, started: Started, epoch: &str) -> ServerInfo {
    ServerInfo {
        version: config::VERSION.to_owned(),
        commit: config::COMMIT.to_owned(),
        engine: ENGINE.to_owned(),
        engine_version: fleet
            .engine_version()
            .map(|version| version.to_string())
            .unwrap_or_default(),
        start_time: Some(started.at.into()),
        uptime: wire::duration(started.clock.elapsed()),
        epoch: epoch.to_owned(),
    }
}

pub(super) fn system(sample: &system::SystemInfo, models: &[Status]) -> SystemInfo {
    SystemInfo {
        cpu_cores: sample.cpu_cores,
        cpu_usage: sample.cpu_usage,
        memory_total_bytes: sample.memory_total_bytes,
        memory_available_bytes: sample.memory_available_bytes,
        memory_models_bytes: models
            .iter()
            .filter_map(|s| s.memory)
            .map(|m| m.host_bytes)
            .sum(),
        disk_total_bytes: sample.disk_total_bytes,
        disk_available_bytes: sample.disk_available_bytes,
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        memory_server_bytes: sample.memory_server_bytes,
    }
}

/// What is known of `model`, which stands as `status` says.
pub(super) fn model(model: &Arc<Model>, status: &Status, detail: Detail) -> ModelInfo {
    let facts = model.facts();
    let usage = model.usage();
    let (in_flight, queued) = model.crowd();
    let live = Status {
        in_flight,
        queued,
        ..status.clone()
    };
    let desired = if facts.wanted {
        DesiredState::Loaded
    } else {
        DesiredState::Unloaded
    };
    let metrics = || ModelMetrics {
        requests_total: usage.total,
        requests_succeeded: usage.succeeded,
        requests_failed: usage.failed,
        requests_cancelled: usage.cancelled,
        success_rate: rate(usage.succeeded, usage.succeeded + usage.failed),
        in_flight,
        queued,
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        tokens_per_second: usage.tokens_per_second,
        time_to_first_token: usage.first_token.map(quantiles),
        time_per_output_token: usage.per_token.map(quantiles),
        restarts: status.restarts,
        uptime: facts
            .ready_since
            .filter(|_| status.stage == Stage::Ready)
            .and_then(since)
            .and_then(wire::duration),
    };
    ModelInfo {
        model_id: model.id().to_string(),
        aliases: Vec::new(),
        status: Some(wire::status(&live)),
        metadata: Some(wire::metadata_message(
            &facts.metadata,
            &facts.entry.spec.source,
            usage.last_used,
        )),
        metrics: detail.metrics.then(metrics),
        spec: detail.full.then(|| wire::spec(&facts.entry.spec)),
        desired_state: desired.into(),
        suspend_reason: 0,
        holders: Vec::new(),
        recent_loads: if detail.full {
            facts.recent_loads.iter().map(wire::load_record).collect()
        } else {
            Vec::new()
        },
        version: facts.entry.version,
        etag: facts.entry.etag.0.clone(),
        reload_required: false,
    }
}

fn rate(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A clock that was set back gives no length of time.
fn since(time: SystemTime) -> Option<Duration> {
    time.elapsed().ok()
}

fn quantiles(latency: Latency) -> LatencyQuantiles {
    LatencyQuantiles {
        p50: wire::duration(latency.p50),
        p95: wire::duration(latency.p95),
        p99: wire::duration(latency.p99),
        count: latency.count,
    }
}
