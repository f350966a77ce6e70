//! What a model did: counters, and latencies of the last requests.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::{
    model::ModelId,
    telemetry::model::{ModelMetrics, RequestSample},
};

/// Counts what a model does.
#[derive(Debug)]
pub struct Usage {
    model: ModelId,
    metrics: ModelMetrics,
    counters: Mutex<Counters>,
}

/// What a request asks for, by the names of the GenAI semantic conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An answer to a conversation.
    Chat,
    /// The continuation of a text.
    TextCompletion,
}

#[derive(Debug, Default)]
struct Counters {
    report: UsageReport,
    seconds: VecDeque<(u64, u64)>,
    first_token: VecDeque<Duration>,
    per_token: VecDeque<Duration>,
    epoch: Option<Instant>,
}

/// What a model did.
#[derive(Clone, Debug, Default)]
pub struct UsageReport {
    /// Requests that were admitted, or refused for a full queue.
    pub total: u64,
    /// Those that ended well.
    pub succeeded: u64,
    /// Those that ended with an error.
    pub failed: u64,
    /// Those that their caller gave up.
    pub cancelled: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Tokens of answers a second over the last minute.
    pub tokens_per_second: f64,
    /// From admission to the first token.
    pub first_token: Option<Latency>,
    /// Between tokens, averaged over each request.
    pub per_token: Option<Latency>,
    /// When the last request came.
    pub last_used: Option<SystemTime>,
}

/// Quantiles of a latency, by the nearest-rank method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub p50: Duration,
    pub p95: Duration,
    pub p99: Duration,
    pub count: u64,
}

/// Counts one request. Dropped before its end was told, it counts as cancelled.
#[derive(Debug)]
pub struct RequestRecord {
    usage: Arc<Usage>,
    operation: Operation,
    began: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    tokens: u32,
    ended: bool,
}

/// Requests whose latencies are remembered.
const REMEMBERED: usize = 1024;

/// Seconds of the rate of tokens.
const RATE_SECONDS: u64 = 60;

// === impl Usage ===

impl Usage {
    /// Nothing yet, of `model`; what happens is recorded with `metrics` too.
    pub fn new(model: ModelId, metrics: ModelMetrics) -> Self {
        Self {
            model,
            metrics,
            counters: Mutex::default(),
        }
    }

    /// A request begins.
    pub fn begin(self: &Arc<Self>, operation: Operation) -> RequestRecord {
        let mut counters = self.lock();
        counters.report.total += 1;
        counters.report.last_used = Some(SystemTime::now());
        let began = Instant::now();
        RequestRecord {
            usage: self.clone(),
            operation,
            began,
            first: None,
            last: None,
            tokens: 0,
            ended: false,
        }
    }

    /// What was counted so far.
    pub fn report(&self) -> UsageReport {
        let mut counters = self.lock();
        let now = counters.second();
        let recent: u64 = counters
            .seconds
            .iter()
            .filter(|(second, _)| second + RATE_SECONDS > now)
            .map(|(_, n)| n)
            .sum();
        let lived = (now + 1).min(RATE_SECONDS);
        UsageReport {
            tokens_per_second: recent as f64 / lived as f64,
            first_token: latency(&counters.first_token),
            per_token: latency(&counters.per_token),
            ..counters.report.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Counters ===

impl Counters {
    /// Seconds since the first call.
    fn second(&mut self) -> u64 {
        self.epoch
            .get_or_insert_with(Instant::now)
            .elapsed()
            .as_secs()
    }

    fn tokens(&mut self, tokens: u64) {
        self.report.completion_tokens += tokens;
        let now = self.second();
        match self.seconds.back_mut() {
            Some((second, count)) if *second == now => *count += tokens,
            _ => self.seconds.push_back((now, tokens)),
        }
        while self
            .seconds
            .front()
            .is_some_and(|(second, _)| second + RATE_SECONDS <= now)
        {
            self.seconds.pop_front();
        }
    }
}

fn remember(latencies: &mut VecDeque<Duration>, latency: Duration) {
    if latencies.len() == REMEMBERED {
        latencies.pop_front();
    }
    latencies.push_back(latency);
}

fn latency(latencies: &VecDeque<Duration>) -> Option<Latency> {
    let mut sorted: Vec<_> = latencies.iter().copied().collect();
    sorted.sort_unstable();
    let rank = |percent: usize| {
        sorted
            .get((sorted.len() * percent).div_ceil(100).max(1) - 1)
            .copied()
    };
    Some(Latency {
        p50: rank(50)?,
        p95: rank(95)?,
        p99: rank(99)?,
        count: sorted.len() as u64,
    })
}

// === impl RequestRecord ===

impl RequestRecord {
    /// `tokens` tokens of the answer came.
    pub fn tokens(&mut self, tokens: u32) {
        let now = Instant::now();
        if self.first.is_none() {
            self.first = Some(now);
            remember(&mut self.usage.lock().first_token, now - self.began);
        }
        self.last = Some(now);
        self.tokens += tokens;
        self.usage.lock().tokens(u64::from(tokens));
    }

    /// The request ended well after `prompt_tokens` and `completion_tokens` tokens.
    pub fn succeed(mut self, prompt_tokens: u32, completion_tokens: u32) {
        let untold = completion_tokens.saturating_sub(self.tokens);
        self.tokens += untold;
        self.end(None);
        let mut counters = self.usage.lock();
        counters.report.succeeded += 1;
        counters.report.prompt_tokens += u64::from(prompt_tokens);
        counters.tokens(u64::from(untold));
        if let Some(per_token) = self.per_token() {
            remember(&mut counters.per_token, per_token);
        }
    }

    /// The request ended with an error of this reason.
    pub fn fail(mut self, reason: &'static str) {
        self.end(Some(reason));
        self.usage.lock().report.failed += 1;
    }

    /// The request was not let in: it does not count.
    pub fn turn_away(mut self) {
        self.ended = true;
        self.usage.lock().report.total -= 1;
    }

    fn end(&mut self, error: Option<&'static str>) {
        self.ended = true;
        self.usage.metrics.request_ended(&RequestSample {
            model: self.usage.model.as_str(),
            operation: self.operation.name(),
            duration: self.began.elapsed(),
            time_to_first_token: self.first.map(|first| first - self.began),
            time_per_output_token: self.per_token(),
            error,
        });
    }

    /// Mean time of the tokens after the first.
    fn per_token(&self) -> Option<Duration> {
        let gaps = self.tokens.checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some((self.last? - self.first?) / gaps)
    }
}

// === impl Operation ===

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::TextCompletion => "text_completion",
        }
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Some("CANCELLED"));
            self.usage.lock().report.cancelled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Arc<Usage> {
        let model = ModelId::parse("m").expect("a well-formed id");
        Arc::new(Usage::new(model, ModelMetrics::default()))
    }

    #[test]
    fn every_request_is_counted_once() {
        let usage = usage();
        usage.begin(Operation::Chat).succeed(3, 5);
        usage.begin(Operation::Chat).fail("WORKER_DIED");
        drop(usage.begin(Operation::Chat));
        usage.begin(Operation::Chat).turn_away();
        let report = usage.report();
        assert_eq!(
            (
                report.total,
                report.succeeded,
                report.failed,
                report.cancelled
            ),
            (3, 1, 1, 1)
        );
        assert_eq!((report.prompt_tokens, report.completion_tokens), (3, 5));
    }

    #[test]
    fn tokens_are_not_counted_twice() {
        let usage = usage();
        let mut record = usage.begin(Operation::Chat);
        record.tokens(2);
        record.tokens(1);
        record.succeed(1, 4);
        assert_eq!(usage.report().completion_tokens, 4);
        assert!(usage.report().tokens_per_second >= 4.0);
    }

    #[test]
    fn quantiles_are_observations() {
        let latencies: VecDeque<_> = (1..=100).map(Duration::from_millis).collect();
        let latency = latency(&latencies).expect("there are observations");
        let ms = |d: Duration| d.as_millis();
        assert_eq!(
            (ms(latency.p50), ms(latency.p95), ms(latency.p99)),
            (50, 95, 99)
        );
        assert_eq!(super::latency(&VecDeque::new()), None);
    }
}
