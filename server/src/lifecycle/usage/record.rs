//! One request, from its admission to its end.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Usage, window::UsageEvent};
use crate::{model::Operation, telemetry::model_metrics::RequestSample};

/// Counts one request. Dropped before its end was known, it counts as cancelled.
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

impl Usage {
    /// A request begins.
    pub fn begin(self: &Arc<Self>, operation: Operation) -> RequestRecord {
        let mut counters = self.lock();
        counters.totals.requests += 1;
        counters.totals.last_used = Some(SystemTime::now());
        drop(counters);
        RequestRecord::new(self.clone(), operation, Instant::now())
    }
}

impl RequestRecord {
    fn new(usage: Arc<Usage>, operation: Operation, began: Instant) -> Self {
        Self {
            usage,
            operation,
            began,
            first: None,
            last: None,
            tokens: 0,
            ended: false,
        }
    }

    /// So many tokens of the answer came. Takes no lock but at the first.
    pub fn tokens(&mut self, tokens: u32) {
        let now = Instant::now();
        if self.first.is_none() {
            self.first = Some(now);
            let latency = now - self.began;
            self.usage.observe(now, UsageEvent::FirstToken(latency));
        }
        self.last = Some(now);
        self.tokens += tokens;
        self.usage.count_tokens(now, tokens);
    }

    /// The request ended well after `prompt_tokens` and `completion_tokens` tokens.
    pub fn succeed(mut self, prompt_tokens: u32, completion_tokens: u32) {
        let unreported = completion_tokens.saturating_sub(self.tokens);
        self.tokens += unreported;
        let event = UsageEvent::Succeeded {
            prompt_tokens,
            per_token: self.per_token(),
        };
        let now = self.end(None);
        self.usage.count_tokens(now, unreported);
        self.usage.observe(now, event);
    }

    /// The request ended with an error of this reason.
    pub fn fail(mut self, reason: &'static str) {
        let now = self.end(Some(reason));
        self.usage.observe(now, UsageEvent::Failed);
    }

    /// The request was not let in: it does not count.
    pub fn turn_away(mut self) {
        self.ended = true;
        self.usage.lock().totals.requests -= 1;
    }

    fn end(&mut self, error: Option<&'static str>) -> Instant {
        self.ended = true;
        let now = Instant::now();
        self.usage.metrics.request_ended(&RequestSample {
            model: self.usage.model.as_str(),
            operation: self.operation,
            duration: now - self.began,
            time_to_first_token: self.first.map(|first| first - self.began),
            time_per_output_token: self.per_token(),
            error,
        });
        now
    }

    /// Mean time of the tokens after the first.
    fn per_token(&self) -> Option<Duration> {
        let gaps = self.tokens.checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some((self.last? - self.first?) / gaps)
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if !self.ended {
            let now = self.end(Some("CANCELLED"));
            self.usage.observe(now, UsageEvent::Cancelled);
        }
    }
}
