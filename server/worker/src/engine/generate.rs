//! Runs one request: hands it to the engine, and what the engine makes to the caller.
//!
//! Requests take turns: one at a time is with the engine, in the order in which they came. The engine could
//! take several, but on a CPU it computes a step of several sequences wrongly (its attention mixes them up),
//! and what waits for another it computes anew in a way that can change its answer. So an answer is the same
//! whatever else is asked at the time. On a GPU, where its attention keeps them apart, several are with it
//! where the spec asks for that: it steps those of equal length together, and computes the others anew.
//!
//! The engine is read whatever the caller does: what a slow caller has not taken yet is put together to one
//! chunk, so nothing stalls and little is held. A caller that goes away ends the answer at
//! the engine's next step. The engine's side of a request is kept until the engine has released it, since
//! a failed write can end the engine.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use hangar_client::v1::{self, GenerateDone};
use hangar_worker_protocol::v1::{GenerateRequest, GenerateResponse, generate_response::Event};
use mistralrs::core::{Request, Response};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Instrument;

use crate::{
    engine::{
        Engine,
        answer::{Answer, AnswerState},
        choices::Choices,
        logits_hook::{EmittedSteps, LogitsHook, PromptRest, TokenStep},
        prompt::Prompt,
        request::{engine_request, work},
        request_limits::RequestLimits,
        responses::{Caller, Responses, stream},
        send_throttle::SendThrottle,
        token_selector::TokenSelector,
    },
    grpc_error,
    stats::InFlight,
};

/// What the engine may write beyond one response a token.
const SPARE_RESPONSES: usize = 16;

/// How long an engine that broke off an answer has to be seen dead.
const DEATH_TIMEOUT: Duration = Duration::from_millis(500);

/// A request on its way.
struct QueuedRequest {
    engine: Arc<Engine>,
    prompt: Prompt,
    selector: TokenSelector,
    /// Time that it waited at the server.
    queued: Duration,
    caller: Caller,
}

/// A request that is with the engine.
struct RunningRequest {
    engine: Arc<Engine>,
    hook: Arc<LogitsHook>,
    emitted: EmittedSteps,
    responses: mpsc::Receiver<Response>,
    /// Ends when the engine has released the request.
    released: oneshot::Receiver<()>,
    /// Whether a token ends it; otherwise it ends when nobody reads it any more.
    has_end_token: bool,
    answer: Answer,
    throttle: SendThrottle,
    in_flight: InFlight,
    caller: Caller,
}

/// How a request ended.
enum GenerationOutcome {
    Done(Box<GenerateDone>),
    Failed(Status),
    CallerGone,
}

impl Engine {
    /// Generates an answer: chunks, then one `done`, or an error.
    pub(crate) async fn generate(
        self: &Arc<Self>,
        request: GenerateRequest,
    ) -> Result<Responses, Status> {
        self.check_gives_text()?;
        let queued = match request.queued {
            None => Duration::ZERO,
            Some(queued) => Duration::try_from(queued)
                .map_err(|_| grpc_error::invalid_field("queued", "is negative"))?,
        };
        let default_max_tokens = request.default_max_tokens as usize;
        let bounds = RequestLimits::of(request.bounds)?;
        let request = request
            .request
            .ok_or_else(|| grpc_error::invalid_field("request", "is required"))?;
        let made = self
            .prompt_and_selector(request, default_max_tokens, bounds)
            .await?;
        let (prompt, selector, request) = made;
        let answer = self.run(prompt, selector, queued);
        if request.n < 2 {
            return Ok(answer);
        }
        let choices = Choices {
            engine: Arc::clone(self),
            request,
            default_max_tokens,
        };
        Ok(choices.run(answer))
    }

    /// What an answer to this request is made from, and the request again. Safe to cancel: what was begun for it ends
    /// soon.
    pub(super) async fn prompt_and_selector(
        self: &Arc<Self>,
        request: v1::GenerateRequest,
        default_max_tokens: usize,
        bounds: RequestLimits,
    ) -> Result<(Prompt, TokenSelector, v1::GenerateRequest), Status> {
        let (engine, bytes) = (Arc::clone(self), request.encoded_len());
        let made = move |cancelled: &CancellationToken| {
            let prompt = engine.prompt(&request, default_max_tokens, cancelled)?;
            bounds.check(&[work(&prompt)], &engine.stats)?;
            let selector = engine.selector(&request, &prompt.tokens, prompt.call.as_ref())?;
            Ok((prompt, selector, request))
        };
        let cancelled = self.call_work.token();
        let caller = cancelled.clone().drop_guard();
        let made = self.call_work.run_until(&cancelled, bytes, made).await?;
        let (prompt, mut selector, request) = made;
        let call = prompt.call.as_ref();
        selector.follow(self.grammar(&request, call, &cancelled).await?);
        // From here on the end of the answer is the grammar's.
        caller.disarm();
        Ok((prompt, selector, request))
    }

    /// Lets a request wait for its permit and run.
    pub(super) fn run(
        self: &Arc<Self>,
        prompt: Prompt,
        selector: TokenSelector,
        queued: Duration,
    ) -> Responses {
        let (caller, responses) = stream();
        let run = QueuedRequest {
            engine: Arc::clone(self),
            prompt,
            selector,
            queued,
            caller,
        };
        self.run_to_its_end(run.wait_and_run().instrument(tracing::Span::current()));
        responses
    }

    /// Takes from a prompt what the engine cannot compute at once, or what it is to be asked about: it gets that
    /// token by token.
    fn split_prompt(&self, prompt: &mut Prompt) -> PromptRest {
        let by_memory = self.sequence_memory.at_once();
        // What has to be computed as a whole is, whatever that takes.
        let is_whole =
            prompt.image_prompt.is_some() || self.limits.is_torn(prompt.tokens.len(), by_memory);
        let most = match prompt.prompt_logprobs {
            Some(_) => 1,
            None if is_whole => self.max_prefill(),
            None => by_memory.min(self.max_prefill()),
        };
        let tokens = match prompt.tokens.len() > most {
            true => prompt.tokens.split_off(most).into(),
            false => VecDeque::new(),
        };
        PromptRest {
            tokens,
            prompt_logprobs: prompt.prompt_logprobs,
        }
    }

    /// Why the engine broke off an answer: it is being stopped, it died, or neither is known.
    pub(super) async fn ended_without_reason(&self) -> Status {
        if self.is_stopped() {
            return grpc_error::unloaded();
        }
        match tokio::time::timeout(DEATH_TIMEOUT, self.dead()).await {
            Ok(()) => grpc_error::worker_died(),
            Err(_) => grpc_error::internal("the engine ended the answer without a reason"),
        }
    }
}

impl QueuedRequest {
    async fn wait_and_run(self) {
        let engine = Arc::clone(&self.engine);
        let waited = Instant::now();
        let tokens = self.prompt.tokens.len() + self.prompt.max_tokens;
        let permit = tokio::select! {
            biased;
            () = self.caller.closed() => return,
            permit = engine.scheduler.acquire(tokens) => permit,
        };
        let Some(_permit) = permit else { return };
        let caller = self.caller.clone();
        match self.begin(waited.elapsed()).await {
            Some(running) => running.run().await,
            None => {
                // A caller that has gone wants no error.
                let _ = caller.send(Err(engine.ended_without_reason().await)).await;
            }
        }
    }

    /// Hands the request to the engine; `None` if it takes none any more.
    async fn begin(self, waited: Duration) -> Option<RunningRequest> {
        let Self {
            engine,
            mut prompt,
            selector,
            queued,
            caller,
        } = self;
        let prompt_tokens = prompt.tokens.len();
        let rest = engine.split_prompt(&mut prompt);
        let steps = prompt.max_tokens + rest.tokens.len();
        let (to_run, responses) = mpsc::channel(steps + SPARE_RESPONSES);
        // What is in the rest of a prompt ends nothing.
        let end = engine.engine_eos_token.filter(|_| rest.tokens.is_empty());
        let in_flight = engine.stats.begin(work(&prompt) + rest.tokens.len());
        let reading = Arc::clone(in_flight.reading());
        let (hook, emitted) = LogitsHook::new(selector, end, rest, prompt.max_tokens, reading);
        let (processor, released) = hook.logits_processor();
        let running = RunningRequest {
            hook,
            emitted,
            responses,
            released,
            has_end_token: end.is_some(),
            answer: Answer::new(
                engine.vocabulary.clone(),
                prompt_tokens,
                std::mem::take(&mut prompt.rules),
                queued + waited,
            ),
            throttle: SendThrottle::default(),
            in_flight,
            caller,
            engine: Arc::clone(&engine),
        };
        let request = engine_request(
            engine.request_id(),
            prompt,
            steps,
            end,
            Arc::new(processor),
            to_run,
        );
        let request = Request::Normal(Box::new(request));
        engine.sender.send(request).await.ok().map(|()| running)
    }
}

impl RunningRequest {
    async fn run(mut self) {
        let end = self.follow().await;
        self.hook.end();
        let Self {
            engine,
            responses,
            released,
            has_end_token,
            mut answer,
            in_flight,
            caller,
            ..
        } = self;
        let (tokens, took) = answer.generated();
        engine.stats.record_decode(tokens, took);
        let span = tracing::Span::current();
        span.record("gen_ai.usage.input_tokens", answer.prompt_tokens());
        span.record("gen_ai.usage.output_tokens", answer.completion_tokens());
        // A slow caller does not keep the permit.
        engine.run_to_its_end(async move { deliver(&mut answer, end, caller).await });
        wait_for_release(has_end_token, responses, released).await;
        drop(in_flight);
    }

    /// Follows the engine to the end of the answer, giving the caller what it takes.
    async fn follow(&mut self) -> GenerationOutcome {
        let mut over = None;
        loop {
            // Before anything is said of the engine's responses: a step is emitted before the one to it.
            while let Some(step) = self.emitted.next() {
                if !matches!(step, TokenStep::Prompt { .. }) {
                    self.in_flight.add_token();
                }
                match self.answer.take(step) {
                    AnswerState::Open => {}
                    AnswerState::Done(done) => return GenerationOutcome::Done(done),
                    AnswerState::Failed(fault) => return GenerationOutcome::Failed(fault.into()),
                }
            }
            match over {
                None => {}
                Some(Some(status)) => return GenerationOutcome::Failed(status),
                Some(None) => {
                    return GenerationOutcome::Failed(self.engine.ended_without_reason().await);
                }
            }
            if let Some(until) = self.throttle.pause(Instant::now()) {
                // The engine wakes nobody meanwhile.
                tokio::select! {
                    biased;
                    () = self.caller.closed() => return GenerationOutcome::CallerGone,
                    () = self.emitted.ended() => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                }
                continue;
            }
            tokio::select! {
                biased;
                () = self.caller.closed() => return GenerationOutcome::CallerGone,
                () = self.emitted.ended() => {}
                Ok(permit) = self.caller.reserve(), if self.answer.has_chunk() => {
                    permit.send(Ok(response(Event::Chunk(self.answer.take_chunk()))));
                    self.throttle.sent(Instant::now());
                }
                engine = self.responses.recv() => match engine {
                    Some(response) => over = refusal(response).map(Some),
                    None => over = Some(None),
                },
                () = self.emitted.overdue() => {}
            }
        }
    }
}

/// Gives the caller the rest and the end.
async fn deliver(answer: &mut Answer, end: GenerationOutcome, caller: Caller) {
    let last = match end {
        GenerationOutcome::CallerGone => return,
        GenerationOutcome::Done(done) => Ok(response(Event::Done(*done))),
        GenerationOutcome::Failed(status) => Err(status),
    };
    if answer.has_chunk() {
        let chunk = response(Event::Chunk(answer.take_chunk()));
        if caller.send(Ok(chunk)).await.is_err() {
            return;
        }
    }
    // A caller that has gone wants no end.
    let _ = caller.send(last).await;
}

/// Reads what the engine still writes until it has released the request. One without an end token is released only when its
/// reader is gone.
async fn wait_for_release(
    has_end_token: bool,
    mut responses: mpsc::Receiver<Response>,
    released: oneshot::Receiver<()>,
) {
    if has_end_token {
        while responses.recv().await.is_some() {}
    } else {
        drop(responses);
    }
    // The other side is dropped then.
    let _ = released.await;
}

/// What an engine's response says against going on; `None` for one that says nothing.
fn refusal(response: Response) -> Option<Status> {
    Some(match response {
        Response::ValidationError(e) => grpc_error::invalid_field("request", e.to_string()),
        Response::InternalError(e) => grpc_error::internal(e.to_string()),
        Response::ModelError(e, _) | Response::CompletionModelError(e, _) => {
            grpc_error::internal(e)
        }
        Response::Chunk(_)
        | Response::CompletionChunk(_)
        | Response::Done(_)
        | Response::CompletionDone(_) => return None,
        _ => grpc_error::internal("the engine answered with something that is no text"),
    })
}

fn response(event: Event) -> GenerateResponse {
    GenerateResponse { event: Some(event) }
}
