//! What a model did.

use hangar_client::{
    convert,
    v1::{LatencyQuantiles, ModelMetrics, UsageSample},
};

use crate::table::{self, Field, success};

pub(super) fn metrics_fields(metrics: &ModelMetrics) -> [Field; 9] {
    let requests = format!(
        "{}, of them {} succeeded, {} failed, {} cancelled; {} running, {} waiting",
        metrics.requests_total,
        metrics.requests_succeeded,
        metrics.requests_failed,
        metrics.requests_cancelled,
        metrics.in_flight,
        metrics.queued
    );
    let tokens = format!(
        "{} in, {} out",
        metrics.prompt_tokens, metrics.completion_tokens
    );
    let first = latency(metrics.time_to_first_token.as_ref());
    let each = latency(metrics.time_per_output_token.as_ref());
    let minute = metrics.last_minute.as_ref();
    let speed = format!(
        "{:.1} tokens/s in the last minute",
        metrics.tokens_per_second
    );
    [
        ("Requests", requests),
        ("Tokens", tokens),
        (
            "Success",
            metrics.success_rate.map(success).unwrap_or_default(),
        ),
        ("First token", first),
        ("Each token", each),
        ("Speed", speed),
        ("Last minute", minute.map(last_minute).unwrap_or_default()),
        (
            "  first token",
            latency(minute.and_then(|minute| minute.time_to_first_token.as_ref())),
        ),
        (
            "  each token",
            latency(minute.and_then(|minute| minute.time_per_output_token.as_ref())),
        ),
    ]
}

fn last_minute(minute: &UsageSample) -> String {
    let mut text = format!(
        "{} requests, {} failed, {} cancelled; {} tokens in, {} out",
        minute.requests,
        minute.failed,
        minute.cancelled,
        minute.prompt_tokens,
        minute.completion_tokens
    );
    if let Some(rate) = minute.success_rate {
        text += &format!("; {} succeeded", success(rate));
    }
    text
}

/// For example "12ms, 95 % within 30ms, 99 % within 41ms".
fn latency(quantiles: Option<&LatencyQuantiles>) -> String {
    let Some(quantiles) = quantiles else {
        return String::new();
    };
    let text = |time: &Option<prost_types::Duration>| {
        let time = time.as_ref().map(convert::to_duration);
        time.map(table::latency).unwrap_or_default()
    };
    format!(
        "{}, 95 % within {}, 99 % within {}",
        text(&quantiles.p50),
        text(&quantiles.p95),
        text(&quantiles.p99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(fields: &[Field], name: &str) -> String {
        let found = fields.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    #[bounded::test]
    fn the_last_minute_is_printed_beside_the_total() {
        let minute = UsageSample {
            requests: 4,
            failed: 1,
            success_rate: Some(0.75),
            completion_tokens: 9,
            ..UsageSample::default()
        };
        let metrics = ModelMetrics {
            last_minute: Some(minute),
            ..ModelMetrics::default()
        };
        let text = value(&metrics_fields(&metrics), "Last minute");
        let expected = "4 requests, 1 failed, 0 cancelled; 0 tokens in, 9 out; 75 % succeeded";
        assert_eq!(text, expected);
    }
}
