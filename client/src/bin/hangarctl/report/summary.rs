//! Several stretches of a model's history as one.

use std::time::Duration;

use hangar_client::{
    convert,
    v1::{LatencyQuantiles, UsageSample},
};

/// What a model did in several stretches.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// All stretches together.
    pub(super) duration: Duration,
    pub(super) requests: u64,
    succeeded: u64,
    failed: u64,
    pub(super) cancelled: u64,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) first_token: Latencies,
    pub(super) per_token: Latencies,
    /// The most that was held.
    pub(super) host_bytes: u64,
    /// The most that was held on devices.
    pub(super) device_bytes: u64,
}

/// Latencies of several stretches.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    medians: Vec<(Duration, u64)>,
    worst: Option<Duration>,
}

impl Summary {
    pub(super) fn add(&mut self, sample: &UsageSample) {
        let duration = sample.duration.as_ref().map(convert::to_duration);
        self.duration += duration.unwrap_or_default();
        self.requests += sample.requests;
        self.succeeded += sample.succeeded;
        self.failed += sample.failed;
        self.cancelled += sample.cancelled;
        self.prompt_tokens += sample.prompt_tokens;
        self.completion_tokens += sample.completion_tokens;
        self.first_token.add(sample.time_to_first_token.as_ref());
        self.per_token.add(sample.time_per_output_token.as_ref());
        let memory = sample.memory.unwrap_or_default();
        self.host_bytes = self.host_bytes.max(memory.host_bytes);
        self.device_bytes = self.device_bytes.max(memory.device_bytes);
    }

    /// Succeeded over succeeded and failed.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn success_rate(&self) -> Option<f64> {
        let finished = self.succeeded + self.failed;
        (finished > 0).then(|| self.succeeded as f64 / finished as f64)
    }

    /// Tokens of answers a second, over at least one second.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn tokens_per_second(&self) -> f64 {
        self.completion_tokens as f64 / self.duration.as_secs_f64().max(1.0)
    }
}

impl Latencies {
    fn add(&mut self, quantiles: Option<&LatencyQuantiles>) {
        let Some(quantiles) = quantiles.filter(|quantiles| quantiles.count > 0) else {
            return;
        };
        let time = |time: Option<prost_types::Duration>| time.as_ref().map(convert::to_duration);
        let median = time(quantiles.p50).unwrap_or_default();
        self.medians.push((median, quantiles.count));
        self.worst = self.worst.max(time(quantiles.p95));
    }

    /// The median of the stretches' medians, each as often as it has observations: close to that of all
    /// observations, which the samples do not hold.
    pub(super) fn median(&self) -> Option<Duration> {
        let mut medians = self.medians.clone();
        medians.sort_unstable();
        let all: u64 = medians.iter().map(|(_, count)| count).sum();
        let mut seen = 0;
        let middle = medians.iter().find(|(_, count)| {
            seen += count;
            seen * 2 >= all
        });
        middle.map(|(median, _)| *median)
    }

    /// The highest 95th percentile of a stretch.
    pub(super) fn worst(&self) -> Option<Duration> {
        self.worst
    }
}
