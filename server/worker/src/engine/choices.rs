//! Several answers to one request: one after the other, each in its own turn, as one stream with one end.

use std::{sync::Arc, time::Duration};

use hangar_client::v1::{AnswerEnd, GenerateDone, GenerateRequest, Usage};
use hangar_worker_protocol::v1::{GenerateResponse, generate_response::Event};
use tokio_stream::StreamExt;
use tonic::Status;

use crate::{
    engine::{
        Engine,
        request_limits::RequestLimits,
        responses::{Caller, Responses, stream},
    },
    grpc_error,
};

/// What the answers of a request are made of.
pub(super) struct Choices {
    pub(super) engine: Arc<Engine>,
    pub(super) request: GenerateRequest,
    pub(super) default_max_tokens: usize,
}

/// How an answer went.
enum ChoiceEnd {
    Done(Box<GenerateDone>),
    CallerGone,
}

impl Choices {
    /// The answers, of which `first` is the first one.
    pub(super) fn run(self, first: Responses) -> Responses {
        let (caller, responses) = stream();
        let engine = Arc::clone(&self.engine);
        engine.run_to_its_end(async move {
            let end = match self.answers(first, &caller).await {
                Ok(Some(done)) => Ok(GenerateResponse {
                    event: Some(Event::Done(done)),
                }),
                Ok(None) => return,
                Err(status) => Err(status),
            };
            // A caller that has gone wants no end.
            let _ = caller.send(end).await;
        });
        responses
    }

    /// The end of all answers, once their chunks have been sent; `None` when the caller has gone.
    async fn answers(
        self,
        first: Responses,
        caller: &Caller,
    ) -> Result<Option<GenerateDone>, Status> {
        let mut ends = Vec::new();
        let mut next = Some(first);
        for index in 0..self.request.n {
            let responses = match next.take() {
                Some(first) => first,
                None => tokio::select! {
                    biased;
                    () = caller.closed() => return Ok(None),
                    next = self.begin(index) => next?,
                },
            };
            match pass_on(responses, index, caller).await? {
                ChoiceEnd::Done(done) => ends.push(*done),
                ChoiceEnd::CallerGone => return Ok(None),
            }
        }
        Ok(together(ends))
    }

    /// Begins the answer with this index.
    async fn begin(&self, index: u32) -> Result<Responses, Status> {
        let mut request = self.request.clone();
        request.seed = request.seed.map(|seed| seed.wrapping_add(index.into()));
        request.prompt_logprobs = false;
        // The first answer was held against the request's limits.
        let limits = RequestLimits::default();
        let made = self
            .engine
            .prompt_and_selector(request, self.default_max_tokens, limits);
        let (prompt, selector, _) = made.await?;
        Ok(self.engine.run(prompt, selector, Duration::ZERO))
    }
}

/// Passes on the chunks of an answer.
async fn pass_on(
    mut responses: Responses,
    index: u32,
    caller: &Caller,
) -> Result<ChoiceEnd, Status> {
    while let Some(response) = responses.next().await {
        match response?.event {
            Some(Event::Done(done)) => return Ok(ChoiceEnd::Done(Box::new(done))),
            Some(Event::Chunk(mut chunk)) => {
                chunk.index = index;
                let event = Some(Event::Chunk(chunk));
                if caller.send(Ok(GenerateResponse { event })).await.is_err() {
                    return Ok(ChoiceEnd::CallerGone);
                }
            }
            None => {}
        }
    }
    match caller.is_closed() {
        true => Ok(ChoiceEnd::CallerGone),
        false => Err(grpc_error::internal("an answer ended without its end")),
    }
}

/// The end of several answers.
fn together(ends: Vec<GenerateDone>) -> Option<GenerateDone> {
    let usages = ends.iter().filter_map(|end| end.usage);
    let usage = usages.reduce(|sum, usage| Usage {
        prompt_tokens: sum.prompt_tokens,
        completion_tokens: sum
            .completion_tokens
            .saturating_add(usage.completion_tokens),
        reasoning_tokens: sum.reasoning_tokens.saturating_add(usage.reasoning_tokens),
    });
    let answers = ends.iter().map(|end| AnswerEnd {
        finish_reason: end.finish_reason,
        stop: end.stop.clone(),
        tool_calls: end.tool_calls.clone(),
        usage: end.usage,
    });
    let answers = answers.collect();
    let first = ends.into_iter().next()?;
    Some(GenerateDone {
        usage,
        answers,
        ..first
    })
}
