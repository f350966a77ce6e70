//! Triton's statistics extension, from what models count.

use std::time::{Duration, SystemTime};

use hangar_client::inference::{
    InferStatistics, MemoryUsage, ModelStatistics, ModelStatisticsRequest, StatisticDuration,
};

use super::OpenInferenceApi;
use crate::{lifecycle::TrackedModel, model::ModelMemory, rpc::error::ApiError};

impl OpenInferenceApi {
    /// What the model that `request` names did, or all that are known to have done anything.
    pub(in crate::rpc::open_inference) async fn statistics(
        &self,
        request: &ModelStatisticsRequest,
    ) -> Result<Vec<ModelStatistics>, ApiError> {
        if request.name.is_empty() {
            if !request.version.is_empty() {
                let what = "must be empty without a name";
                return Err(ApiError::invalid("version", what));
            }
            let models = self.fleet.all();
            return Ok(models.iter().map(|model| of(model)).collect());
        }
        let named = self.named("name", &request.name, &request.version).await?;
        Ok(vec![match &named.model {
            Some(model) => of(model),
            None => ModelStatistics {
                name: named.id.to_string(),
                version: named.version.to_string(),
                inference_stats: Some(inference(0, 0)),
                ..ModelStatistics::default()
            },
        }])
    }
}

fn of(model: &TrackedModel) -> ModelStatistics {
    let usage = model.totals();
    ModelStatistics {
        name: model.id().to_string(),
        version: model.facts().entry.version.to_string(),
        last_inference: usage.last_used.map(millis).unwrap_or_default(),
        inference_count: usage.succeeded,
        execution_count: usage.succeeded,
        inference_stats: Some(inference(usage.succeeded, usage.failed)),
        batch_stats: Vec::new(),
        memory_usage: model.status().memory.map(memory).unwrap_or_default(),
    }
}

/// Counts, and zero for all that is not measured.
fn inference(succeeded: u64, failed: u64) -> InferStatistics {
    let count = |count| Some(StatisticDuration { count, ns: 0 });
    InferStatistics {
        success: count(succeeded),
        fail: count(failed),
        queue: count(0),
        compute_input: count(0),
        compute_infer: count(0),
        compute_output: count(0),
        cache_hit: count(0),
        cache_miss: count(0),
    }
}

fn memory(memory: ModelMemory) -> Vec<MemoryUsage> {
    [("CPU", memory.host_bytes), ("GPU", memory.device_bytes)]
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(kind, byte_size)| MemoryUsage {
            r#type: kind.to_owned(),
            id: 0,
            byte_size,
        })
        .collect()
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
