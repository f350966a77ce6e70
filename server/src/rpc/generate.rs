//! One Generate call: from its check to its last response.
//!
//! A task of its own takes what the worker makes as it comes, whatever the caller does: a caller that
//! does not read keeps neither its slot nor the engine, and its deadline holds all the same. A caller
//! that goes away ends the task.
//!
//! Responses pass as the worker has encoded them: they are looked into, and decoded only for a caller who does
//! not keep up, or who wants them decoded.

mod check;
mod completion;
mod outbox;
mod parts;
mod peek;
mod span;
mod tokens;
mod tools;
mod values;

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
pub(super) use check::{Generate, MAX_TEXT, check_detokenize, check_tokenize, parse};
pub(super) use completion::Completion;
use futures::Stream;
use hangar_client::v1::{GenerateDone, GenerateResponse};
use outbox::{Inbox, Outbox};
use peek::{Peek, peek};
use prost::Message;
pub(super) use span::failed as span_failed;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};

use super::{
    bounds::bounds,
    broken_call::explain,
    error::{ApiError, reason_of},
};
use crate::{
    lifecycle::{Admitted, Fleet, Permit, RequestRecord},
    worker::GenerateCall,
};

/// The encoded responses of a Generate call. Dropping it ends the generation.
pub struct AnswerStream {
    responses: Inbox,
    _caller: DropGuard,
}

/// The responses of an [`AnswerStream`], decoded.
pub struct DecodedAnswer(AnswerStream);

/// What a call holds until it has ended.
struct RunningGenerate {
    responses: Streaming<Bytes>,
    permit: Permit,
    record: RequestRecord,
    deadline: Option<Instant>,
    /// Of the whole generation.
    span: Span,
}

/// How a call ended.
enum GenerationOutcome {
    /// With this, which is encoded behind it.
    Done(GenerateDone, Bytes),
    Failed(Status),
    /// The worker does not speak as it should.
    Malformed(String),
}

/// Has a worker of `fleet` begin to answer `request`.
///
/// # Errors
///
/// What the caller hears.
pub(super) async fn generate(fleet: &Fleet, request: Generate) -> Result<AnswerStream, Status> {
    let span = span::begin(&request.message, request.admission.operation);
    match fleet.admit(&request.admission).await {
        Ok(admitted) => {
            let begun = AnswerStream::begin(fleet, request, admitted);
            begun.instrument(span).await
        }
        Err(error) => {
            span::failed(&span, error.reason());
            Err(ApiError::from(error).into())
        }
    }
}

impl AnswerStream {
    /// Begins `request` on the worker that it was `admitted` to.
    async fn begin(fleet: &Fleet, request: Generate, admitted: Admitted) -> Result<Self, Status> {
        let Admitted { mut permit, record } = admitted;
        let deadline = request.admission.deadline;
        let call = worker_call(request, &permit);
        let mut client = permit.client();
        let begun = tokio::select! {
            begun = client.generate(call) => begun,
            () = expiry(deadline) => Err(ApiError::DeadlineExceeded.into()),
            failure = permit.cut_off() => Err(ApiError::Failed(failure).into()),
        };
        match begun {
            Ok(responses) => {
                let call = RunningGenerate {
                    responses,
                    permit,
                    record,
                    deadline,
                    span: Span::current(),
                };
                let (outbox, responses) = outbox::outbox();
                let gone = CancellationToken::new();
                let caller = gone.clone().drop_guard();
                let task = async move {
                    // Dropped with its caller gone, the call counts as given up.
                    gone.run_until_cancelled_owned(call.run(outbox)).await;
                };
                fleet.run(task.in_current_span());
                Ok(Self {
                    responses,
                    _caller: caller,
                })
            }
            Err(status) => {
                let status = explain(status, &mut permit).await;
                span::failed(&Span::current(), reason_of(&status));
                record.fail(reason_of(&status));
                Err(status)
            }
        }
    }
}

impl Stream for AnswerStream {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.responses.poll_next(context)
    }
}

impl From<AnswerStream> for DecodedAnswer {
    fn from(generation: AnswerStream) -> Self {
        Self(generation)
    }
}

impl Stream for DecodedAnswer {
    type Item = Result<GenerateResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let response = ready!(self.0.responses.poll_next(context));
        Poll::Ready(response.map(|response| {
            GenerateResponse::decode(response?)
                .map_err(|error| ApiError::Internal(error.to_string()).into())
        }))
    }
}

impl RunningGenerate {
    /// Puts all that comes into `outbox`. By the time that the last response is there, the slot is free
    /// and the request is counted.
    async fn run(mut self, mut outbox: Outbox) {
        let last = match self.follow(&mut outbox).await {
            GenerationOutcome::Done(done, response) => {
                span::done(&self.span, &done);
                let usage = done.usage.unwrap_or_default();
                self.record
                    .succeed(usage.prompt_tokens, usage.completion_tokens);
                drop(self.permit);
                return outbox.end(Ok(response));
            }
            GenerationOutcome::Failed(status) => explain(status, &mut self.permit).await,
            GenerationOutcome::Malformed(what) => ApiError::Internal(what).into(),
        };
        span::failed(&self.span, reason_of(&last));
        self.record.fail(reason_of(&last));
        drop(self.permit);
        outbox.end(Err(last));
    }

    /// Puts all chunks into `outbox`.
    async fn follow(&mut self, outbox: &mut Outbox) -> GenerationOutcome {
        let Self {
            responses,
            permit,
            record,
            deadline,
            ..
        } = self;
        let (mut expired, mut cut_off) = (pin!(expiry(*deadline)), pin!(permit.cut_off()));
        loop {
            let response = tokio::select! {
                biased;
                () = &mut expired => return GenerationOutcome::Failed(ApiError::DeadlineExceeded.into()),
                response = responses.message() => response,
                failure = &mut cut_off => return GenerationOutcome::Failed(ApiError::Failed(failure).into()),
            };
            let response = match response {
                Ok(Some(response)) => response,
                Ok(None) => {
                    let what = "the worker ended the answer without an end";
                    return GenerationOutcome::Failed(Status::unavailable(what));
                }
                Err(status) => return GenerationOutcome::Failed(status),
            };
            match peek(&response) {
                Ok(Peek::Chunk { tokens }) => {
                    if tokens > 0 {
                        record.tokens(tokens);
                    }
                    if let Err(error) = outbox.put(response) {
                        return GenerationOutcome::Malformed(error.to_string());
                    }
                }
                Ok(Peek::Done(done)) => return GenerationOutcome::Done(done, response),
                Err(malformed) => return GenerationOutcome::Malformed(malformed.to_string()),
            }
        }
    }
}

async fn expiry(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What the worker is asked: with the spec's defaults where `request` says nothing.
fn worker_call(request: Generate, permit: &Permit) -> GenerateCall {
    let Generate {
        admission,
        settings,
        message,
    } = request;
    let defaults = permit.defaults();
    GenerateCall {
        request: message,
        settings: settings.or(defaults),
        queued: permit.queued(),
        default_max_tokens: defaults.max_tokens,
        bounds: bounds(permit, admission.deadline),
    }
}
