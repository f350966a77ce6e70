//! ModelStreamInfer: many requests of one call side by side.
//!
//! A request waits for its permit in a task of its own, which ends when that came: a caller that does not
//! read never keeps a slot that nobody uses. From there on the generation holds itself up for nobody.
//! Dropping the responses ends all requests of the call.

mod incoming;

use std::{future::ready, pin::Pin};

use futures::{Stream, StreamExt, stream};
use hangar_client::{
    code_name,
    inference::{
        InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
        infer_parameter::ParameterChoice,
    },
    status::bounded,
    v1::{GenerateResponse, generate_response::Event},
};
use incoming::{Incoming, Waiting, incoming};
use tokio::sync::oneshot;
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};

use super::{
    api::{OpenInferenceApi, TaskRequest},
    embedding::EmbeddingRequest,
    text_request::{TextForm, TextRequest},
    text_response::TextResponse,
};
use crate::rpc::{
    deadline::Deadline,
    error::{ApiError, reason_of},
    generate::{self, DecodedAnswer, Generate},
    request_memory::StreamMemory,
};

/// The responses of a call.
pub(super) type Responses =
    Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// The responses of a request.
type OfRequest = Pin<Box<dyn Stream<Item = ModelStreamInferResponse> + Send>>;

/// One request of a call.
#[derive(Clone)]
struct ParallelCall {
    api: OpenInferenceApi,
    deadline: Option<Deadline>,
    span: Span,
}

/// Requests of a call that run or wait at the same time.
const PARALLEL: usize = 64;

/// Says whether a response is the last of its request.
const FINAL: &str = "triton_final_response";

/// The responses to `requests`.
pub(super) fn responses(
    api: OpenInferenceApi,
    requests: Streaming<ModelInferRequest>,
    memory: StreamMemory,
    deadline: Option<Deadline>,
) -> Responses {
    let stop = api.stop.clone();
    let call = ParallelCall {
        api,
        deadline,
        span: Span::current(),
    };
    let (incoming, reading) = incoming(requests, memory);
    let Incoming {
        mut waiting,
        mut refused,
        read,
    } = incoming;
    call.read(reading);
    let responses = stream::poll_fn(move |context| waiting.poll_recv(context))
        .take_until(stop.clone().cancelled_owned())
        .map(move |waiting| match waiting.map(Waiting::request) {
            Ok((request, memory)) => stream::once(call.clone().respond(request))
                .flatten()
                // The request has its memory until its last response.
                .map(move |response| {
                    let _kept = &memory;
                    Ok(response)
                })
                .boxed(),
            Err(status) => stream::once(ready(Err(status))).boxed(),
        })
        .flatten_unordered(PARALLEL);
    let refusals = stream::poll_fn(move |context| refused.poll_recv(context))
        .take_until(stop.clone().cancelled_owned())
        .map(|refused| {
            let (model, id) = (refused.model, refused.id);
            Ok(Failed { model, id }.response(&refused.why.into()))
        });
    let last_response = async move {
        let end = match stop.is_cancelled() {
            true => Err(ApiError::ShuttingDown),
            false => read.await.map_err(|_| dropped()),
        };
        end.err().map(|error| Err(error.into()))
    };
    stream::select(refusals, responses)
        .chain(stream::once(last_response).filter_map(ready))
        .boxed()
}

fn dropped() -> ApiError {
    ApiError::Internal("the requests of a call were dropped".to_owned())
}

impl ParallelCall {
    /// Reads the requests in a task of its own, until the server stops.
    fn read(&self, reading: impl Future<Output = ()> + Send + 'static) {
        let stop = self.api.stop.clone();
        let task = async move {
            stop.run_until_cancelled_owned(reading).await;
        };
        self.api.fleet.run(task.instrument(self.span.clone()));
    }

    async fn respond(self, request: ModelInferRequest) -> OfRequest {
        let failed = Failed {
            model: request.model_name.clone(),
            id: request.id.clone(),
        };
        let begun = async {
            Ok(
                match self.api.parse_request(request, self.deadline).await? {
                    TaskRequest::Text(request) => {
                        let TextRequest { generate, form } = *request;
                        let generation = self.begin(generate).await?;
                        pieces(form, generation, failed.clone()).boxed()
                    }
                    TaskRequest::Vectors(request) => {
                        stream::iter(self.vectors(request).await?).boxed()
                    }
                },
            )
        };
        match begun.await {
            Ok(responses) => responses,
            Err(status) => stream::once(ready(failed.response(&status))).boxed(),
        }
    }

    /// The responses with the vectors that `request` wants.
    async fn vectors(
        &self,
        request: EmbeddingRequest,
    ) -> Result<Vec<ModelStreamInferResponse>, Status> {
        let (api, form) = (self.api.clone(), request.form.clone());
        let vectors = self.run_in_task(async move { api.vectors(request).await });
        let vectors = vectors.await?;
        let mut responses = vec![stream_response(vectors, !form.empty_final)];
        responses.extend(
            form.empty_final
                .then(|| stream_response(form.empty(), true)),
        );
        Ok(responses)
    }

    /// Begins a generation.
    async fn begin(&self, request: Generate) -> Result<DecodedAnswer, Status> {
        let fleet = self.api.fleet.clone();
        let generation = self.run_in_task(async move { generate::generate(&fleet, request).await });
        Ok(generation.await?.into())
    }

    /// Does `work` in a task of its own, so that it goes on while the caller does not read. A caller that went
    /// away ends it.
    async fn run_in_task<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<T, Status> {
        let (mut done, answer) = oneshot::channel();
        let task = async move {
            tokio::select! {
                () = done.closed() => {}
                answer = work => {
                    // A caller that went away drops what was begun.
                    let _ = done.send(answer);
                }
            }
        };
        self.api.fleet.run(task.instrument(self.span.clone()));
        answer.await.unwrap_or_else(|_| {
            Err(ApiError::Internal("the request was dropped".to_owned()).into())
        })
    }
}

/// The responses to a request that `generation` answers.
fn pieces(
    form: TextForm,
    generation: DecodedAnswer,
    failed: Failed,
) -> impl Stream<Item = ModelStreamInferResponse> + Send {
    let (stream, empty_final) = (form.stream, form.empty_final);
    let mut answer = TextResponse::new(form);
    generation.flat_map(move |response| {
        let responses = match response.map(|GenerateResponse { event }| event) {
            Ok(Some(Event::Chunk(chunk))) if stream => {
                vec![stream_response(answer.piece(chunk), false)]
            }
            Ok(Some(Event::Chunk(chunk))) => {
                answer.add(chunk);
                Vec::new()
            }
            Ok(Some(Event::Done(done))) => {
                let mut last = vec![stream_response(answer.end(&done), !empty_final)];
                last.extend(empty_final.then(|| stream_response(answer.empty(), true)));
                last
            }
            Ok(None) => Vec::new(),
            Err(status) => vec![failed.response(&status)],
        };
        stream::iter(responses)
    })
}

fn stream_response(mut response: ModelInferResponse, last: bool) -> ModelStreamInferResponse {
    let last = parameter(ParameterChoice::BoolParam(last));
    response.parameters.insert(FINAL.to_owned(), last);
    ModelStreamInferResponse {
        error_message: String::new(),
        infer_response: Some(response),
    }
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

/// What identifies a failed request.
#[derive(Clone)]
struct Failed {
    model: String,
    id: String,
}

impl Failed {
    fn response(&self, status: &Status) -> ModelStreamInferResponse {
        // As long as it would be in headers.
        let status = &bounded(status.clone());
        let text = |text: &str| parameter(ParameterChoice::StringParam(text.to_owned()));
        let mut response = stream_response(
            ModelInferResponse {
                model_name: self.model.clone(),
                id: self.id.clone(),
                ..ModelInferResponse::default()
            },
            true,
        );
        if let Some(response) = &mut response.infer_response {
            let code = text(code_name(status.code()));
            response.parameters.insert("error_code".to_owned(), code);
            let reason = text(reason_of(status));
            response
                .parameters
                .insert("error_reason".to_owned(), reason);
        }
        response.error_message = match status.message() {
            // An empty message would say that nothing went wrong.
            "" => status.code().description().to_owned(),
            message => message.to_owned(),
        };
        response
    }
}
