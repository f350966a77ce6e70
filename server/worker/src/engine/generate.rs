//! Runs one request: hands it to the engine, and what the engine makes to the caller.
//!
//! The engine is read promptly, whatever the caller does: what a slow caller has not taken yet is put
//! together to one chunk, so nothing stalls and little is held. A caller that goes away ends the answer at
//! the engine's next step. The engine's side of the request is never dropped while the engine may still
//! write to it, since a failed write can end the engine.

use std::sync::Arc;
use std::time::Duration;

use hangar_client::v1::GenerateDone;
use hangar_client::worker::v1::generate_response::Event;
use hangar_client::worker::v1::{GenerateRequest, GenerateResponse};
use mistralrs::core::{
    CustomLogitsProcessor, NormalRequest, Request, RequestMessage, Response, SamplingParams,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument;

use crate::engine::Engine;
use crate::engine::answer::{Answer, Standing};
use crate::engine::prompt::Prompt;
use crate::engine::sampling::{Chooser, Rules};
use crate::engine::tap::{Step, Tap};
use crate::stats::InFlight;
use crate::status;

/// Chunks that wait for the transport before they are put together.
const WAITING_CHUNKS: usize = 8;

/// What the engine may write beyond one response a token.
const SPARE_RESPONSES: usize = 16;

/// How long an engine that broke off an answer has to be seen dead.
const DEATH_NOTICE: Duration = Duration::from_millis(500);

/// What a caller of Generate gets.
pub(crate) type Responses = ReceiverStream<Result<GenerateResponse, Status>>;

/// A request that is with the engine.
struct Run {
    engine: Arc<Engine>,
    tap: Arc<Tap>,
    steps: mpsc::Receiver<Step>,
    responses: mpsc::Receiver<Response>,
    answer: Answer,
    in_flight: InFlight,
    caller: mpsc::Sender<Result<GenerateResponse, Status>>,
}

/// How a run ended.
enum End {
    Done(Box<GenerateDone>),
    Failed(Status),
    Abandoned,
}

impl Engine {
    /// Generates an answer: chunks, then one `done`, or an error.
    pub(crate) async fn generate(
        self: &Arc<Self>,
        request: GenerateRequest,
    ) -> Result<Responses, Status> {
        let queued = request.queued;
        let request = request
            .request
            .ok_or_else(|| status::invalid_field("request", "is required"))?;
        let engine = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || {
            let prompt = engine.prompt(&request);
            (prompt, request)
        });
        let (prompt, request) = made
            .await
            .map_err(|e| status::internal(format!("the prompt could not be made: {e}")))?;
        let prompt = prompt?;
        let defaults = self.generation_defaults.as_ref();
        let rules = Rules::resolve(request.sampling.as_ref(), defaults);
        let chooser = Chooser::new(rules, &prompt.tokens, request.seed);
        self.run(prompt, chooser, request.stop, queued).await
    }

    /// Generates a token from a short prompt. The error says why there is none.
    pub(crate) async fn warm_up(self: &Arc<Self>) -> Result<(), Status> {
        let tokens = self.vocabulary.encode("Hello", true).unwrap_or_default();
        let known = |token: &u32| *token < self.vocabulary.size();
        let mut tokens: Vec<u32> = tokens.into_iter().filter(known).collect();
        if tokens.is_empty() {
            tokens.push(0);
        }
        tokens.truncate(self.context_length.saturating_sub(1).max(1));
        let chooser = Chooser::new(Rules::greedy(), &[], None);
        let prompt = Prompt {
            tokens,
            max_tokens: 1,
            is_chat: false,
        };
        let mut responses = self.run(prompt, chooser, Vec::new(), None).await?;
        while let Some(response) = tokio_stream::StreamExt::next(&mut responses).await {
            if let Some(Event::Done(_)) = response?.event {
                return Ok(());
            }
        }
        Err(status::internal("the answer ended without its end"))
    }

    async fn run(
        self: &Arc<Self>,
        prompt: Prompt,
        chooser: Chooser,
        stops: Vec<String>,
        queued: Option<prost_types::Duration>,
    ) -> Result<Responses, Status> {
        let (to_run, responses) = mpsc::channel(prompt.max_tokens + SPARE_RESPONSES);
        let (tap, steps) = Tap::new(
            chooser,
            Arc::clone(&self.end_tokens),
            prompt.max_tokens,
            Arc::clone(&self.stats),
        );
        let (caller, stream) = mpsc::channel(WAITING_CHUNKS);
        let run = Run {
            engine: Arc::clone(self),
            tap: Arc::clone(&tap),
            steps,
            responses,
            answer: Answer::new(
                self.vocabulary.clone(),
                prompt.tokens.len(),
                stops,
                prompt.is_chat,
                queued,
            ),
            in_flight: self.stats.begin(prompt.tokens.len()),
            caller,
        };
        let request = Request::Normal(Box::new(engine_request(
            self.request_id(),
            prompt,
            tap,
            to_run,
        )));
        if self.sender.send(request).await.is_err() {
            return Err(self.ended_without_reason().await);
        }
        self.requests
            .spawn(run.run().instrument(tracing::Span::current()));
        Ok(ReceiverStream::new(stream))
    }

    /// Why the engine broke off an answer: it is being stopped, it died, or neither is known.
    async fn ended_without_reason(&self) -> Status {
        if self.is_stopped() {
            return status::unloaded();
        }
        match tokio::time::timeout(DEATH_NOTICE, self.dead()).await {
            Ok(()) => status::worker_died(),
            Err(_) => status::internal("the engine ended the answer without a reason"),
        }
    }
}

impl Run {
    async fn run(mut self) {
        let end = self.follow().await;
        self.tap.end();
        let Self {
            engine,
            tap,
            responses,
            mut answer,
            in_flight,
            caller,
            ..
        } = self;
        let span = tracing::Span::current();
        span.record("gen_ai.usage.input_tokens", answer.prompt_tokens());
        span.record("gen_ai.usage.output_tokens", answer.completion_tokens());
        let ended = async move {
            let _in_flight = in_flight;
            let _tap = tap;
            engine_lets_go(&engine, responses).await;
        };
        tokio::join!(ended, deliver(&mut answer, end, caller));
    }

    /// Follows the engine to the end of the answer, giving the caller what it takes.
    async fn follow(&mut self) -> End {
        loop {
            tokio::select! {
                biased;
                () = self.caller.closed() => return End::Abandoned,
                Some(step) = self.steps.recv() => {
                    self.in_flight.prefilled();
                    match self.answer.take(step) {
                        Standing::Open => {}
                        Standing::Done(done) => return End::Done(done),
                        Standing::Failed => return End::Failed(no_scores()),
                    }
                }
                Ok(permit) = self.caller.reserve(), if self.answer.has_chunk() => {
                    permit.send(Ok(response(Event::Chunk(self.answer.take_chunk()))));
                }
                engine = self.responses.recv() => match engine.map(refusal) {
                    Some(None) => {}
                    Some(Some(status)) => return End::Failed(status),
                    None => {
                        let status = self.engine.ended_without_reason().await;
                        return End::Failed(status);
                    }
                },
            }
        }
    }
}

/// Gives the caller the rest and the end.
async fn deliver(
    answer: &mut Answer,
    end: End,
    caller: mpsc::Sender<Result<GenerateResponse, Status>>,
) {
    let last = match end {
        End::Abandoned => return,
        End::Done(done) => Ok(response(Event::Done(*done))),
        End::Failed(status) => Err(status),
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

/// Reads what the engine still writes until it has let go of the request. An engine without an end token
/// can only be made to let go by a reader that is gone.
async fn engine_lets_go(engine: &Engine, mut responses: mpsc::Receiver<Response>) {
    if engine.end_tokens.is_empty() {
        return;
    }
    while responses.recv().await.is_some() {}
}

fn engine_request(
    id: usize,
    prompt: Prompt,
    tap: Arc<Tap>,
    responses: mpsc::Sender<Response>,
) -> NormalRequest {
    let tap: Arc<dyn CustomLogitsProcessor> = tap;
    // The tap leaves one token to choose, which the engine does greedily.
    let sampling = SamplingParams {
        temperature: Some(0.0),
        max_len: Some(prompt.max_tokens),
        ..SamplingParams::neutral()
    };
    let message = RequestMessage::CompletionTokens(prompt.tokens);
    let mut request = NormalRequest::new_simple(message, sampling, responses, id, None, None);
    request.is_streaming = true;
    request.logits_processors = Some(vec![tap]);
    request
}

/// What an engine's response says against going on; `None` for one that says nothing.
fn refusal(response: Response) -> Option<Status> {
    Some(match response {
        Response::ValidationError(e) => status::invalid_field("request", e.to_string()),
        Response::InternalError(e) => status::internal(e.to_string()),
        Response::ModelError(e, _) | Response::CompletionModelError(e, _) => status::internal(e),
        Response::Chunk(_)
        | Response::CompletionChunk(_)
        | Response::Done(_)
        | Response::CompletionDone(_) => return None,
        _ => status::internal("the engine answered with something that is no text"),
    })
}

fn no_scores() -> Status {
    status::internal("the model computed scores that are not numbers (NaN or infinite)")
}

fn response(event: Event) -> GenerateResponse {
    GenerateResponse { event: Some(event) }
}
