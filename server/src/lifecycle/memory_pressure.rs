//! What happens when memory runs short although everybody was let in by the rules.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    command::DriverCommand,
    context::Context,
    eviction::Evictor,
    memory::{Evict, iec},
    tracked_model::TrackedModel,
};
use crate::{
    model::{Failure, Reason},
    supervisor::LivenessProbe,
};

/// Between two looks at the memory.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a model's driver is waited for.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Share of the memory that has to be left: below it, a worker that holds more than it was admitted with is
/// killed before the system picks one, which may be the server.
const CRITICAL: f64 = 0.03;

/// Watches the memory until the fleet closes: above the high watermark the model that was used least
/// recently goes, if one may; when almost nothing is left, a worker that outgrew its admission does.
pub(super) async fn relieve(context: Arc<Context>, probe: LivenessProbe) {
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = context.closing.cancelled() => return,
            _ = checks.tick() => probe.mark_alive(),
        }
        let fill = context.memory.fill();
        let watermark = context.limits.memory_high_watermark;
        if fill.share <= watermark {
            continue;
        }
        let evictor = Evictor::for_everybody(&context);
        let message = format!(
            "evicted because {:.0} % of the memory was in use, more than the high watermark of {:.0} %",
            fill.share * 100.0,
            watermark * 100.0
        );
        let mut relieved = false;
        for candidate in evictor.candidates() {
            probe.mark_alive();
            // One whose driver hangs stays, and another one goes instead.
            let evicted = timeout(EVICTION_TIMEOUT, evictor.evict(&candidate, &message)).await;
            relieved = evicted.unwrap_or(false);
            if relieved {
                break;
            }
        }
        if !relieved && fill.available_share < CRITICAL {
            kill_most_over_admission(&context).await;
        }
    }
}

/// Kills the worker that is the furthest beyond what it was admitted with, if one is.
async fn kill_most_over_admission(context: &Context) {
    let excess = |model: &Arc<TrackedModel>| {
        let held = model.status().memory?.host_bytes;
        let over = held
            .checked_sub(model.admitted()?)
            .filter(|over| *over > 0)?;
        Some((over, held, model.clone()))
    };
    let models = context.all();
    let Some((_, held, model)) = models
        .iter()
        .filter_map(excess)
        .max_by_key(|(over, ..)| *over)
    else {
        return;
    };
    let message = format!(
        "the worker held {}, more than it was admitted with, while the system ran out of memory; give the model a \
         memory_hint, or a shorter context_length",
        iec(held)
    );
    tracing::error!(model = %model.id(), held, "killing a worker that outgrew its admission");
    let failure = Failure::new(Reason::InsufficientMemory, message);
    // A driver that is gone has no worker.
    let _ = timeout(
        EVICTION_TIMEOUT,
        model.send(DriverCommand::Terminate(failure)),
    )
    .await;
}
