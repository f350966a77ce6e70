//! Unloads of a model that is still wanted: evicted, or idle for too long; and the end of that.

use std::time::Duration;

use super::ModelDriver;
use crate::{
    catalog::DeferredWrite,
    lifecycle::eviction::may_be_evicted,
    model::{
        StateKind, SuspendCause, Suspension,
        state::{Cause, Event},
    },
};

impl ModelDriver {
    /// Unloads the model if nobody uses it, nobody did for the time `idle`, and the rules allow it.
    pub(super) fn evict(&mut self, cause: SuspendCause, message: String, idle: Duration) -> bool {
        let allowed = match cause {
            SuspendCause::Evicted => may_be_evicted(&self.context, &self.model),
            SuspendCause::Idle => !self.model.facts().entry.spec.required && !self.is_held(),
        };
        let serves = self.state.kind() == StateKind::Ready && !self.state.is_terminating();
        if !allowed || !serves || !self.model.gate.close_if_idle(idle) {
            return false;
        }
        tracing::info!(model = %self.model.id(), %message, "model.evict");
        let id = self.model.id();
        self.context.metrics.evicted(id.as_str(), cause);
        let suspension = Suspension { cause, message };
        self.context
            .catalog
            .defer_write(id, DeferredWrite::Suspended(Some(suspension.clone())));
        self.published.edit().suspended = Some(suspension);
        self.drain_timeout = Duration::ZERO;
        self.apply(Event::Unload(match cause {
            SuspendCause::Evicted => Cause::Evicted,
            SuspendCause::Idle => Cause::Idle,
        }));
        true
    }

    /// Unloads a model that nobody has used for its idle time-out.
    pub(super) fn end_idleness(&mut self) {
        let Some(limit) = self.model.facts().entry.spec.idle_timeout else {
            return;
        };
        let idle = self.model.gate.idle_since().map(|since| since.elapsed());
        if idle.is_some_and(|idle| idle >= limit) {
            let message = format!(
                "unloaded because nobody used it for {:.1} s, its idle_timeout; load it again when it is needed",
                limit.as_secs_f64()
            );
            self.evict(SuspendCause::Idle, message, limit);
        }
    }

    /// Somebody wants the model again, or nobody does any more. Says whether it was suspended.
    pub(super) fn unsuspend(&mut self) -> bool {
        let suspended = self.published.edit().suspended.take().is_some();
        if suspended {
            let id = self.model.id();
            self.context
                .catalog
                .defer_write(id, DeferredWrite::Suspended(None));
        }
        suspended
    }

    pub(super) fn is_held(&self) -> bool {
        self.context.holders.is_held(self.model.id())
    }
}
