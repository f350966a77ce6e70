//! What a model did: since the server started, in the last minute, and in each minute of a day.
//!
//! Invariants: every request that was let in is counted once, when it ends; a token is counted when it
//! comes, without a lock. A model that does nothing takes no memory here besides this struct, once its
//! day is over.

mod history;
mod latency;
mod recent;
mod record;
mod sample;
#[cfg(test)]
mod tests;
mod token_ring;
mod window;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use history::History;
pub use latency::Latency;
use recent::Recent;
pub use record::RequestRecord;
pub use sample::HistorySample;
use token_ring::TokenRing;
use window::{Tally, UsageEvent, WINDOW_SECONDS, Window};

use crate::{
    model::{ModelId, ModelMemory},
    telemetry::model_metrics::ModelMetrics,
};

/// Counts what a model does.
#[derive(Debug)]
pub struct Usage {
    model: ModelId,
    metrics: ModelMetrics,
    epoch: Instant,
    tokens: TokenRing,
    counters: Mutex<UsageCounters>,
}

#[derive(Debug)]
struct UsageCounters {
    totals: Totals,
    first_token: Recent,
    per_token: Recent,
    window: Window,
    history: History,
    /// What ended since the last sample of the history.
    stretch: Tally,
    sampled: Instant,
    sampled_tokens: u64,
}

/// What a model did since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that were admitted, or refused for a full queue.
    pub requests: u64,
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
    /// When the last request came.
    pub last_used: Option<SystemTime>,
}

/// What a model did.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsageReport {
    /// Since the server started.
    pub totals: Totals,
    /// In the second that is not over and the 59 before it; in less, where the model is not known for so
    /// long.
    pub last_minute: HistorySample,
    /// From admission to the first token, of the last requests.
    pub first_token: Option<Latency>,
    /// Between tokens, averaged over each request, of the last requests.
    pub per_token: Option<Latency>,
}

impl Usage {
    /// Nothing yet, of `model`; what happens is recorded with `metrics` too.
    pub fn new(model: ModelId, metrics: ModelMetrics) -> Self {
        Self::since(Instant::now(), model, metrics)
    }

    fn since(epoch: Instant, model: ModelId, metrics: ModelMetrics) -> Self {
        let counters = UsageCounters {
            totals: Totals::default(),
            first_token: Recent::default(),
            per_token: Recent::default(),
            window: Window::default(),
            history: History::default(),
            stretch: Tally::default(),
            sampled: epoch,
            sampled_tokens: 0,
        };
        Self {
            model,
            metrics,
            epoch,
            tokens: TokenRing::default(),
            counters: Mutex::new(counters),
        }
    }

    /// What was counted so far. Quick.
    pub fn totals(&self) -> Totals {
        Totals {
            completion_tokens: self.tokens.total(),
            ..self.lock().totals
        }
    }

    /// What was counted so far and in the last minute, of a model that now holds `memory`.
    pub fn report(&self, memory: Option<ModelMemory>) -> UsageReport {
        self.report_at(Instant::now(), SystemTime::now(), memory)
    }

    /// The samples of a day, oldest first.
    pub fn history(&self) -> Vec<HistorySample> {
        self.lock().history.all()
    }

    /// Puts samples that an earlier run of the server has taken before those of this one.
    pub fn restore(&self, earlier: Vec<HistorySample>) {
        self.lock().history.restore(earlier, SystemTime::now());
    }

    /// Adds what was done since the last sample to the history, which is given back too. Nothing is added
    /// when nothing was done and the model has no worker, whose `memory` is given then.
    pub fn sample(&self, memory: Option<ModelMemory>) -> Option<HistorySample> {
        self.sample_at(Instant::now(), SystemTime::now(), memory)
    }

    fn count_tokens(&self, at: Instant, tokens: u32) {
        self.tokens.add(self.second(at), tokens);
    }

    fn observe(&self, at: Instant, event: UsageEvent) {
        let second = self.second(at);
        let mut counters = self.lock();
        counters.count(event);
        counters.stretch.add(event);
        counters.window.add(second, event);
    }

    fn report_at(&self, at: Instant, wall: SystemTime, memory: Option<ModelMemory>) -> UsageReport {
        let known = at - self.epoch;
        let whole = Duration::from_secs((WINDOW_SECONDS - 1).into());
        let covered = whole + Duration::from_nanos(known.subsec_nanos().into());
        let second = self.second(at);
        let mut counters = self.lock();
        counters.window.expire(second);
        let counts = counters.window.counts();
        let (first_token, per_token) = counters.window.latencies();
        let last_minute = HistorySample {
            first_token,
            per_token,
            completion_tokens: self.tokens.window(second),
            memory,
            ..HistorySample::of(counts)
        };
        UsageReport {
            totals: Totals {
                completion_tokens: self.tokens.total(),
                ..counters.totals
            },
            last_minute: last_minute.with_end(wall, known.min(covered)),
            first_token: counters.first_token.latency(),
            per_token: counters.per_token.latency(),
        }
    }

    fn sample_at(
        &self,
        at: Instant,
        wall: SystemTime,
        memory: Option<ModelMemory>,
    ) -> Option<HistorySample> {
        let mut counters = self.lock();
        let total = self.tokens.total();
        let stretch = std::mem::take(&mut counters.stretch);
        let (first_token, per_token) = stretch.latencies();
        let sample = HistorySample {
            first_token,
            per_token,
            completion_tokens: total - counters.sampled_tokens,
            memory,
            ..HistorySample::of(stretch.counts)
        };
        let sample = sample.with_end(wall, at - counters.sampled);
        counters.sampled = at;
        counters.sampled_tokens = total;
        counters.window.expire(self.second(at));
        counters.history.expire(wall);
        if memory.is_none() && sample.is_idle() {
            return None;
        }
        counters.history.push(sample);
        Some(sample)
    }

    /// Seconds since the model became known: enough for 136 years.
    fn second(&self, at: Instant) -> u32 {
        at.duration_since(self.epoch).as_secs() as u32
    }

    fn lock(&self) -> MutexGuard<'_, UsageCounters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UsageCounters {
    fn count(&mut self, event: UsageEvent) {
        let totals = &mut self.totals;
        match event {
            UsageEvent::FirstToken(latency) => self.first_token.add(latency),
            UsageEvent::Succeeded {
                prompt_tokens,
                per_token,
            } => {
                totals.succeeded += 1;
                totals.prompt_tokens += u64::from(prompt_tokens);
                if let Some(latency) = per_token {
                    self.per_token.add(latency);
                }
            }
            UsageEvent::Failed => totals.failed += 1,
            UsageEvent::Cancelled => totals.cancelled += 1,
        }
    }
}
