//! What happens when memory runs short although everybody was let in by the rules.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    command::DriverCommand,
    context::Context,
    eviction::Evictor,
    memory::{CRITICAL, Evict, iec},
};
use crate::{
    model::{Failure, ModelId, Reason},
    supervisor::LivenessProbe,
};

/// Between two looks at the memory.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a model's driver is waited for.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Growth below this says nothing: every worker takes a page now and then. In bytes.
const SLIGHT_GROWTH: u64 = 16 << 20;

/// What a worker has taken that nobody counted on when others were let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Growth {
    /// Beyond what it had when it was loaded; for one that is not, all that it has. In bytes.
    Within(u64),
    /// Beyond what it was admitted with. In bytes.
    Beyond(u64),
}

/// Workers that were killed here and have not been reaped.
#[derive(Debug, Default)]
struct UnreapedWorkers(Vec<UnreapedWorker>);

#[derive(Debug)]
struct UnreapedWorker {
    model: ModelId,
    pid: u32,
    killed: Instant,
}

/// Watches the memory until the fleet closes: above the high watermark the model that was used least
/// recently goes, if one may; when almost nothing is left, a worker that has grown does.
pub(super) async fn relieve(context: Arc<Context>, probe: LivenessProbe) {
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut unreaped = UnreapedWorkers::default();
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
            kill_most_grown(&context, &mut unreaped).await;
        }
    }
}

/// Kills the worker that has grown most, if one has and none that was killed is still giving back what it had.
///
/// One goes although it is within what it was admitted with, if there is none beyond that: what a model has when it is
/// loaded is all that is counted for it afterwards, and together they may have been promised more than there is.
async fn kill_most_grown(context: &Context, unreaped: &mut UnreapedWorkers) {
    unreaped.update(|id| context.model(id)?.status().worker_pid);
    if unreaped.is_awaited(context.limits.kill_timeout, Instant::now()) {
        return;
    }
    let models = context.all();
    let grown = models.iter().filter_map(|model| {
        let status = model.status();
        let pid = status.worker_pid?;
        let held = status.memory?.host_bytes;
        let growth = Growth::of(held, model.admitted()?, model.settled())?;
        let alive = !unreaped.contains(model.id(), pid);
        alive.then_some((model, pid, held, growth))
    });
    // Required models go last.
    let most = grown.max_by_key(|(model, _, _, growth)| {
        let required = model.facts().entry.spec.required;
        (!required, *growth)
    });
    let Some((model, pid, held, growth)) = most else {
        return;
    };
    tracing::error!(model = %model.id(), held, ?growth, "killing a worker that has grown: the memory is at its end");
    let failure = Failure::new(Reason::InsufficientMemory, growth.in_words(held));
    unreaped.add(model.id(), pid);
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
        let growth = if held > admitted {
            Self::Beyond(held - admitted)
        } else {
            Self::Within(held.saturating_sub(settled))
        };
        let grown = held.saturating_sub(settled.min(admitted));
        (grown >= SLIGHT_GROWTH).then_some(growth)
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

impl UnreapedWorkers {
    /// The worker `pid` of `model` is killed now.
    fn add(&mut self, model: &ModelId, pid: u32) {
        self.0.push(UnreapedWorker {
            model: model.clone(),
            pid,
            killed: Instant::now(),
        });
    }

    /// Forgets those that have been reaped, where models have the workers that `pid` tells.
    fn update(&mut self, pid: impl Fn(&ModelId) -> Option<u32>) {
        self.0
            .retain(|worker| pid(&worker.model) == Some(worker.pid));
    }

    /// Whether one was killed less than `limit` before `now`: what it had is about to be given back.
    fn is_awaited(&self, limit: Duration, now: Instant) -> bool {
        self.0
            .iter()
            .any(|worker| now.duration_since(worker.killed) < limit)
    }

    fn contains(&self, model: &ModelId, pid: u32) -> bool {
        self.0
            .iter()
            .any(|worker| worker.model == *model && worker.pid == pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn what_is_beyond_the_admission_comes_before_any_growth_within_it() {
        let of = |held, admitted, settled| {
            let [held, admitted, settled] = [held, admitted, settled].map(|n| n * SLIGHT_GROWTH);
            Growth::of(held, admitted, settled)
        };
        let beyond = of(101, 100, 50);
        assert_eq!(beyond, Some(Growth::Beyond(SLIGHT_GROWTH)));
        let within = of(100, 100, 10);
        assert_eq!(within, Some(Growth::Within(90 * SLIGHT_GROWTH)));
        assert!(beyond > within && within > of(60, 100, 50));
        // A worker that loads has grown by all that it has.
        assert_eq!(of(30, 100, 0), Some(Growth::Within(30 * SLIGHT_GROWTH)));
        // One that was loaded with more than it was admitted with is beyond that.
        assert_eq!(of(50, 40, 50), Some(Growth::Beyond(10 * SLIGHT_GROWTH)));
        assert_eq!(of(50, 100, 50), None);
        assert_eq!(of(40, 100, 50), None);
    }

    #[bounded::test]
    fn a_worker_that_took_a_page_has_not_grown() {
        let settled = 100 * SLIGHT_GROWTH;
        let grown_by = |bytes| Growth::of(settled + bytes, 2 * settled, settled);
        assert_eq!(grown_by(4096), None);
        assert_eq!(grown_by(SLIGHT_GROWTH - 1), None);
        assert!(grown_by(SLIGHT_GROWTH).is_some());
        assert_eq!(Growth::of(settled + 4096, settled, settled), None);
    }

    #[bounded::test]
    fn a_killed_worker_is_awaited_until_it_is_reaped_or_takes_too_long() {
        let limit = Duration::from_hours(1);
        let model = ModelId::parse("m").unwrap();
        let mut unreaped = UnreapedWorkers::default();
        assert!(!unreaped.is_awaited(limit, Instant::now()));
        unreaped.add(&model, 7);
        unreaped.update(|_| Some(7));
        assert!(unreaped.is_awaited(limit, Instant::now()) && unreaped.contains(&model, 7));
        // The next one may be killed then, and this one not again.
        let later = Instant::now() + limit;
        unreaped.update(|_| Some(7));
        assert!(!unreaped.is_awaited(limit, later) && unreaped.contains(&model, 7));
        unreaped.update(|_| Some(8));
        assert!(!unreaped.contains(&model, 7));
        unreaped.add(&model, 8);
        unreaped.update(|_| None);
        assert!(!unreaped.is_awaited(limit, Instant::now()));
    }
}
