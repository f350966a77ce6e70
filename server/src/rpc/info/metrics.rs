//! What a model did, as messages.

use hangar_client::v1::{LatencyQuantiles, ModelMetrics, UsageSample};

use crate::{
    lifecycle::{HistorySample, Latency, UsageReport},
    model::Status,
    rpc::convert,
    wire,
};

/// What was counted, without what the status has.
pub(super) fn metrics(usage: &UsageReport, status: &Status) -> ModelMetrics {
    let totals = usage.totals;
    ModelMetrics {
        requests_total: totals.requests,
        requests_succeeded: totals.succeeded,
        requests_failed: totals.failed,
        requests_cancelled: totals.cancelled,
        success_rate: rate(totals.succeeded, totals.succeeded + totals.failed),
        in_flight: status.in_flight,
        queued: status.queued,
        prompt_tokens: totals.prompt_tokens,
        completion_tokens: totals.completion_tokens,
        tokens_per_second: usage.last_minute.tokens_per_second(),
        time_to_first_token: usage.first_token.map(quantiles),
        time_per_output_token: usage.per_token.map(quantiles),
        restarts: status.restarts,
        uptime: None,
        last_minute: Some(sample(&usage.last_minute)),
        kv_blocks_used: status.kv_blocks.map_or(0, |blocks| blocks.used),
        kv_blocks_total: status.kv_blocks.map_or(0, |blocks| blocks.total),
    }
}

pub(super) fn sample(sample: &HistorySample) -> UsageSample {
    let finished = u64::from(sample.succeeded) + u64::from(sample.failed);
    UsageSample {
        start_time: Some(sample.start().into()),
        duration: wire::duration_message(sample.duration()),
        requests: sample.requests(),
        succeeded: sample.succeeded.into(),
        failed: sample.failed.into(),
        cancelled: sample.cancelled.into(),
        success_rate: rate(sample.succeeded.into(), finished),
        prompt_tokens: sample.prompt_tokens,
        completion_tokens: sample.completion_tokens,
        tokens_per_second: sample.tokens_per_second(),
        time_to_first_token: sample.first_token.map(quantiles),
        time_per_output_token: sample.per_token.map(quantiles),
        memory: sample.memory.map(convert::memory),
    }
}

pub(super) fn rate(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn quantiles(latency: Latency) -> LatencyQuantiles {
    LatencyQuantiles {
        p50: wire::duration_message(latency.p50()),
        p95: wire::duration_message(latency.p95()),
        p99: wire::duration_message(latency.p99()),
        count: latency.count.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn what_was_given_up_is_no_failure() {
        let reported = sample(&HistorySample {
            succeeded: 3,
            failed: 1,
            cancelled: 6,
            millis: 500,
            completion_tokens: 8,
            ..HistorySample::default()
        });
        assert_eq!((reported.requests, reported.success_rate), (10, Some(0.75)));
        assert_eq!(reported.tokens_per_second, 8.0);
        let idle = sample(&HistorySample::default());
        assert_eq!((idle.requests, idle.success_rate), (0, None));
        assert!(idle.memory.is_none() && idle.time_to_first_token.is_none());
    }
}
