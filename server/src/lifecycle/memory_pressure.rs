//! What happens when memory runs short although everybody was let in by the rules.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    command::DriverCommand,
    context::Context,
    eviction::Evictor,
    memory::{CRITICAL, Evict, iec},
};
use crate::{
    model::{Failure, Reason},
    supervisor::LivenessProbe,
};

/// Between two looks at the memory.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a model's driver is waited for.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);

/// What a worker has taken that nobody counted on when others were let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Growth {
    /// Beyond what it had when it was loaded; for one that is not, all that it has. In bytes.
    Within(u64),
    /// Beyond what it was admitted with. In bytes.
    Beyond(u64),
}

/// Watches the memory until the fleet closes: above the high watermark the model that was used least
/// recently goes, if one may; when almost nothing is left, a worker that has grown does.
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
            kill_most_grown(&context).await;
        }
    }
}

/// Kills the worker that has grown most, if one has.
///
/// One goes although it is within what it was admitted with, if there is none beyond that: what a model has when it is
/// loaded is all that is counted for it afterwards, and together they may have been promised more than there is.
async fn kill_most_grown(context: &Context) {
    let models = context.all();
    let grown = models.iter().filter_map(|model| {
        let held = model.status().memory?.host_bytes;
        let growth = Growth::of(held, model.admitted()?, model.settled())?;
        Some((model, held, growth))
    });
    // Required models go last.
    let most = grown.max_by_key(|(model, _, growth)| {
        let required = model.facts().entry.spec.required;
        (!required, *growth)
    });
    let Some((model, held, growth)) = most else {
        return;
    };
    tracing::error!(model = %model.id(), held, ?growth, "killing a worker that has grown: the memory is at its end");
    let failure = Failure::new(Reason::InsufficientMemory, growth.in_words(held));
    // A driver that is gone has no worker.
    let _ = timeout(
        EVICTION_TIMEOUT,
        model.send(DriverCommand::Terminate(failure)),
    )
    .await;
}

impl Growth {
    /// That of a worker that holds so much, was admitted with so much, and had so much when it was loaded; zero before.
    fn of(held: u64, admitted: u64, settled: u64) -> Option<Self> {
        if held > admitted {
            return Some(Self::Beyond(held - admitted));
        }
        let grown = held.saturating_sub(settled);
        (grown > 0).then_some(Self::Within(grown))
    }

    /// Why a worker that holds so much is killed, and what to do about it.
    fn in_words(self, held: u64) -> String {
        let held = iec(held);
        match self {
            Self::Beyond(_) => format!(
                "the worker held {held}, more than it was admitted with, while the system ran out of memory; give the model a \
                 memory_hint, or a shorter context_length"
            ),
            Self::Within(grown) => format!(
                "the worker held {held} and had grown by {} of it, the most of all, while the system ran out of memory; load \
                 fewer models beside it, or give it a shorter context_length",
                iec(grown)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_admission_comes_before_any_growth_within_it() {
        let beyond = Growth::of(101, 100, 50);
        assert_eq!(beyond, Some(Growth::Beyond(1)));
        let within = Growth::of(100, 100, 10);
        assert_eq!(within, Some(Growth::Within(90)));
        assert!(beyond > within && within > Growth::of(60, 100, 50));
        // A worker that loads has grown by all that it has.
        assert_eq!(Growth::of(30, 100, 0), Some(Growth::Within(30)));
        assert_eq!(Growth::of(50, 100, 50), None);
        assert_eq!(Growth::of(40, 100, 50), None);
    }
}
