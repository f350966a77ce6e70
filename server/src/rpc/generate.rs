//! One Generate call: from its check to its last response.
//!
//! A task of its own takes what the worker makes as it comes, whatever the caller does: a caller that
//! does not read keeps neither its place nor the engine, and its deadline holds all the same. A caller
//! that goes away ends the task.

mod check;
mod outbox;
mod parts;
mod span;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use hangar_client::{
    v1::{
        GenerateChunk, GenerateDone, GenerateRequest, GenerateResponse, generate_response::Event,
    },
    worker::v1 as worker,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Status, Streaming};
use tracing::{Instrument, Span};

use super::{
    error::{ApiError, reason_of},
    inference_service::explain,
    validate::Violations,
};
use crate::{
    lifecycle::{Fleet, Operation, Permit, RequestRecord},
    telemetry, wire,
};
use outbox::{Inbox, Outbox};

pub(super) use check::check;
pub(super) use span::{begin as begin_span, failed as span_failed};

/// The responses of a Generate call. Dropping it ends the generation.
pub struct Generation {
    responses: Inbox,
    _caller: DropGuard,
}

/// What a call holds until it has ended.
struct Call {
    chunks: Streaming<worker::GenerateResponse>,
    permit: Permit,
    record: RequestRecord,
    deadline: Option<Instant>,
    /// Of the whole generation.
    span: Span,
}

/// What comes next.
enum Step {
    Chunk(GenerateChunk),
    Done(GenerateDone),
    Failed(Status),
}

/// What `request` asks for.
pub(super) fn operation(request: &GenerateRequest) -> Operation {
    if request.messages.is_empty() {
        Operation::TextCompletion
    } else {
        Operation::Chat
    }
}

/// `work`, if it ends before `deadline`.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work)
            .await
            .map_err(|_| ApiError::DeadlineExceeded)?,
        None => work.await,
    }
}

// === impl Generation ===

impl Generation {
    /// Begins `request` on the worker that `permit` is for.
    pub(super) async fn begin(
        fleet: &Fleet,
        request: GenerateRequest,
        mut permit: Permit,
        record: RequestRecord,
        deadline: Option<Instant>,
    ) -> Result<Self, Status> {
        let mut call = Request::new(with_defaults(request, &permit));
        telemetry::propagate(call.metadata_mut());
        let mut client = permit.client();
        let begun = tokio::select! {
            begun = client.generate(call) => begun,
            () = expiry(deadline) => Err(ApiError::DeadlineExceeded.into()),
            failure = permit.cut_off() => Err(ApiError::Failed(failure).into()),
        };
        match begun {
            Ok(response) => {
                let call = Call {
                    chunks: response.into_inner(),
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

impl Stream for Generation {
    type Item = Result<GenerateResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.responses.poll_next(context)
    }
}

// === impl Call ===

impl Call {
    /// Puts all that comes into `outbox`. By the time that the last response is there, the place is free
    /// and the request is counted.
    async fn run(mut self, mut outbox: Outbox) {
        loop {
            match self.step().await {
                Step::Chunk(chunk) => {
                    // A chunk may hold nothing but text that was held back.
                    let tokens = u32::try_from(chunk.token_ids.len()).unwrap_or(u32::MAX);
                    if tokens > 0 {
                        self.record.tokens(tokens);
                    }
                    outbox.put(chunk);
                }
                Step::Done(done) => {
                    span::done(&self.span, &done);
                    let usage = done.usage.unwrap_or_default();
                    self.record
                        .succeed(usage.prompt_tokens, usage.completion_tokens);
                    drop(self.permit);
                    return outbox.end(Ok(GenerateResponse {
                        event: Some(Event::Done(done)),
                    }));
                }
                Step::Failed(status) => {
                    let status = explain(status, &mut self.permit).await;
                    span::failed(&self.span, reason_of(&status));
                    self.record.fail(reason_of(&status));
                    drop(self.permit);
                    return outbox.end(Err(status));
                }
            }
        }
    }

    async fn step(&mut self) -> Step {
        let message = tokio::select! {
            biased;
            () = expiry(self.deadline) => return Step::Failed(ApiError::DeadlineExceeded.into()),
            message = self.chunks.message() => message,
            failure = self.permit.cut_off() => return Step::Failed(ApiError::Failed(failure).into()),
        };
        match message.map(|response| response.and_then(|response| response.event)) {
            Ok(Some(worker::generate_response::Event::Chunk(chunk))) => Step::Chunk(chunk),
            Ok(Some(worker::generate_response::Event::Done(done))) => Step::Done(done),
            Ok(None) => Step::Failed(Status::unavailable(
                "the worker ended the answer without an end",
            )),
            Err(status) => Step::Failed(status),
        }
    }
}

async fn expiry(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The request as the worker gets it: with the spec's defaults where it says nothing.
fn with_defaults(mut request: GenerateRequest, permit: &Permit) -> worker::GenerateRequest {
    let defaults = permit.defaults();
    let asked = Violations::default().sampling("sampling", request.sampling.as_ref());
    request.sampling = Some(wire::sampling(&asked.or(defaults.sampling)));
    if request.stop.is_empty() {
        request.stop.clone_from(&defaults.stop);
    }
    worker::GenerateRequest {
        request: Some(request),
        queued: wire::duration(permit.queued()),
        default_max_tokens: defaults.max_tokens.unwrap_or_default(),
    }
}
