//! The day's history of all models: one task samples them, and keeps what it saw in the catalog.
//!
//! Invariant: what a model did is in exactly one sample, also when a sample is late or the last one comes
//! early because the server stops.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use super::{context::Context, desired_state::DesiredState, usage::HistorySample};
use crate::{
    catalog::KeptSample,
    model::ModelId,
    supervisor::{LivenessProbe, Tasks},
};

/// The running task.
#[derive(Debug)]
pub struct HistorySampling {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct HistorySampler {
    context: Arc<Context>,
    desired_state: Arc<DesiredState>,
    interval: Duration,
}

/// How far back the history reaches.
const HISTORY_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Models that are looked at in one go, with the other tasks waiting.
const MODELS_PER_BATCH: usize = 1000;

impl HistorySampling {
    /// Restores what the catalog holds of the models, then samples them in every `interval`.
    pub(super) fn start(
        context: Arc<Context>,
        desired_state: Arc<DesiredState>,
        interval: Duration,
        tasks: &Tasks,
    ) -> Self {
        let stop = CancellationToken::new();
        let sampler = HistorySampler {
            context,
            desired_state,
            interval,
        };
        let probe = tasks.supervisor().liveness_probe("history", interval);
        let task = tasks.critical("history", sampler.run(stop.clone(), probe));
        Self { stop, task }
    }

    /// Takes the last samples and ends.
    pub async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the history's task ended badly");
        }
    }
}

impl HistorySampler {
    async fn run(self, stop: CancellationToken, probe: LivenessProbe) {
        let mut ticks = interval_at(Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.restore().await;
        loop {
            let going = stop.run_until_cancelled(ticks.tick()).await.is_some();
            probe.mark_alive();
            let samples = self.sample().await;
            if !samples.is_empty()
                && let Err(error) = self.context.catalog.append_samples(samples).await
            {
                tracing::error!(%error, "cannot keep the history");
            }
            if !going {
                return;
            }
        }
    }

    async fn restore(&self) {
        let since = SystemTime::now().checked_sub(HISTORY_AGE);
        let since = since.unwrap_or(SystemTime::UNIX_EPOCH);
        let kept = match self.context.catalog.samples(since).await {
            Ok(kept) => kept,
            Err(error) => return tracing::error!(%error, "cannot read the history"),
        };
        let mut of_models: HashMap<_, Vec<_>> = HashMap::new();
        for kept in kept {
            // One of another version is of no use.
            if let Ok(sample) = serde_json::from_str::<HistorySample>(&kept.sample) {
                of_models.entry(kept.id).or_default().push(sample);
            }
        }
        for (id, samples) in of_models {
            // One that was deleted has no history.
            if let Ok(Some(model)) = self.desired_state.track(&id).await {
                model.restore_history(samples);
            }
        }
    }

    async fn sample(&self) -> Vec<KeptSample> {
        let mut samples = Vec::new();
        for models in self.context.all().chunks(MODELS_PER_BATCH) {
            samples.extend(
                models
                    .iter()
                    .filter_map(|model| kept(model.id(), model.sample_history()?)),
            );
            tokio::task::yield_now().await;
        }
        samples
    }
}

/// `sample` as the catalog keeps it.
fn kept(id: &ModelId, sample: HistorySample) -> Option<KeptSample> {
    Some(KeptSample {
        id: id.clone(),
        began: sample.start(),
        sample: serde_json::to_string(&sample).ok()?,
    })
}
