//! A loaded model: what the service needs to use it, without a lock around it.
//!
//! The engine itself runs on its own thread behind [`Engine::sender`]. Everything that can be answered
//! without it (tokens, templates, limits) is answered here, so that no request disturbs another.

pub(crate) mod answer;
pub(crate) mod chat;
mod chat_prompt;
mod choices;
mod conversation;
mod embed;
mod embedder;
pub(crate) mod generate;
mod image_prompt;
mod json;
pub(crate) mod load;
pub(crate) mod logits_hook;
pub(crate) mod logprobs;
pub(crate) mod prompt;
pub(crate) mod reasoning;
mod request;
mod request_limits;
mod responses;
pub(crate) mod sampling;
pub(crate) mod scheduler;
pub(crate) mod send_throttle;
mod sequence_memory;
mod support;
mod text_refusal;
pub(crate) mod token_rules;
pub(crate) mod token_selector;
mod tools;
mod warm_up;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use mistralrs::core::{MistralRs, ModelGenerationDefaults, Request};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::{
    call_work::CallWork,
    engine::{
        chat::ChatTemplate, embedder::Embedder, reasoning::ReasoningFormat, scheduler::Scheduler,
        sequence_memory::SequenceMemory,
    },
    failure::Failure,
    grammar::Grammars,
    inspect::{Limits, TokenDefaults},
    stats::Stats,
    vision::ImageRule,
    vocabulary::Vocabulary,
};

/// A loaded model.
pub(crate) struct Engine {
    /// Kept for as long as the engine is to run.
    runner: Mutex<Option<Arc<MistralRs>>>,
    /// The engine's own queue. Never taken anew from the runner, which would start a dead engine again.
    sender: mpsc::Sender<Request>,
    vocabulary: Vocabulary,
    grammars: Grammars,
    /// How conversations are put, or why they cannot be.
    chat: Result<ChatTemplate, String>,
    /// How the model writes what it thinks, if that is known.
    reasoning: Option<ReasoningFormat>,
    /// Token at the beginning of a text, if the model has one.
    bos_token: Option<String>,
    /// How vectors are made, for an embedding model.
    embedder: Option<Embedder>,
    /// Longest sequence of prompt and answer in tokens that the model and the spec allow.
    context_by_model: usize,
    /// Tokens that end an answer.
    eos_token_ids: Arc<[u32]>,
    /// One of them by which the engine ends an answer; without one, it does when nobody reads it any more.
    engine_eos_token: Option<u32>,
    /// What the model's files say of the tokens of every answer.
    token_defaults: TokenDefaults,
    /// Whether the tokenizer's own tokens at the beginning of a text are put before conversations, too.
    add_bos_to_chats: bool,
    /// Up to where the engine computes what the model says.
    limits: Limits,
    /// How long sequences may be, and how much of a prompt is computed at once.
    sequence_memory: SequenceMemory,
    generation_defaults: Option<ModelGenerationDefaults>,
    /// How the model takes images, if it does.
    images: Option<ImageRule>,
    stats: Arc<Stats>,
    /// Where requests are made ready for the engine.
    call_work: CallWork,
    /// Which requests may be with the engine.
    scheduler: Scheduler,
    next_request: AtomicUsize,
    /// Requests that were taken.
    requests: TaskTracker,
}

impl Engine {
    /// Where calls have blocking work done.
    pub(crate) fn call_work(&self) -> &CallWork {
        &self.call_work
    }

    /// Looks at how much memory there is for sequences: once, when nothing of the load is left and no request is under way.
    ///
    /// # Errors
    ///
    /// When there is hardly any.
    pub(crate) fn measure_memory(&self) -> Result<(), Failure> {
        self.sequence_memory.measure(self.context_by_model)
    }

    /// Longest sequence of prompt and answer in tokens.
    pub(crate) fn context_length(&self) -> usize {
        self.context_by_model.min(self.sequence_memory.longest())
    }

    /// Returns when the engine is dead.
    pub(crate) async fn dead(&self) {
        self.sender.closed().await;
    }

    /// Returns when every request has got its end.
    pub(crate) async fn idle(&self) {
        self.requests.close();
        self.requests.wait().await;
        // Its memory is back by the time that the worker's is.
        self.grammars.end();
    }

    /// Makes the engine end. Requests that are with it end without a finish, and those that are made ready for it
    /// are told so.
    pub(crate) fn stop(&self) {
        self.call_work.end();
        drop(self.lock_runner().take());
    }

    /// Whether [`Engine::stop`] was called.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock_runner().is_none()
    }

    fn lock_runner(&self) -> std::sync::MutexGuard<'_, Option<Arc<MistralRs>>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a request, which [`Engine::idle`] waits for.
    #[expect(
        clippy::disallowed_methods,
        reason = "of a request that panics the caller hears, by the end of what it listens to"
    )]
    fn run_to_its_end(&self, request: impl Future<Output = ()> + Send + 'static) {
        self.requests.spawn(request);
    }

    fn request_id(&self) -> usize {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }
}
