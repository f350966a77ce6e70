//! Which models may go to make room, and their way out.
//!
//! Nothing that is in use, pinned, required or held is ever evicted, nor what has a higher priority than
//! what the room is for. What is evicted is still asked for: it is suspended, and comes back only when
//! somebody asks again.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use super::{
    command::{DriverCommand, EvictCommand},
    context::Context,
    memory::Evict,
    tracked_model::TrackedModel,
};
use crate::model::{ModelId, StateKind, SuspendCause};

/// Makes room for one model.
pub(super) struct Evictor {
    context: Arc<Context>,
    /// What the room is for: nothing of a higher priority goes. `None`: for everybody.
    priority: Option<i32>,
    /// Whether anything may go at all.
    allowed: bool,
}

impl Evictor {
    /// Makes room for a model of `priority`, if that is `allowed`.
    pub(super) fn for_model(context: &Arc<Context>, priority: i32, allowed: bool) -> Self {
        Self {
            context: context.clone(),
            priority: Some(priority),
            allowed,
        }
    }

    /// Makes room for everybody.
    pub(super) fn for_everybody(context: &Arc<Context>) -> Self {
        Self {
            context: context.clone(),
            priority: None,
            allowed: true,
        }
    }

    fn may_go(&self, model: &TrackedModel) -> bool {
        let priority = model.facts().entry.spec.priority;
        model.status().state == StateKind::Ready
            && model.gate.idle_since().is_some()
            && self.priority.is_none_or(|limit| priority <= limit)
            && may_be_evicted(&self.context, model)
    }
}

impl Evict for Evictor {
    fn candidates(&self) -> Vec<ModelId> {
        if !self.allowed {
            return Vec::new();
        }
        let models = self.context.all();
        let mut candidates: Vec<_> = models
            .iter()
            .filter(|model| self.may_go(model))
            .filter_map(|model| Some((model.gate.idle_since()?, model.id().clone())))
            .collect();
        candidates.sort();
        candidates.into_iter().map(|(_, id)| id).collect()
    }

    fn evict<'a>(&'a self, id: &'a ModelId, message: &'a str) -> BoxFuture<'a, bool> {
        async move {
            let Some(model) = self.context.model(id) else {
                return false;
            };
            let _eviction = self.context.memory.begin_eviction();
            let command = |reply| {
                DriverCommand::Evict(EvictCommand {
                    cause: SuspendCause::Evicted,
                    message: message.to_owned(),
                    idle: Duration::ZERO,
                    reply,
                })
            };
            model.send_and_wait(command).await.unwrap_or(false)
        }
        .boxed()
    }
}

/// Whether `model` may be evicted while nobody uses it.
pub(super) fn may_be_evicted(context: &Context, model: &TrackedModel) -> bool {
    let spec = &model.facts().entry.spec;
    !spec.pinned && !spec.required && !context.holders.is_held(model.id())
}
