//! Generate: text, as it is made.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, StreamExt};
use prost::bytes::Bytes;
use tonic::Streaming;
use tracing::{Instrument, Span};

/// A piece of an answer, or its end.
pub use crate::v1::generate_response::Event as GenerateEvent;
use crate::{
    client::Client,
    convert::to_proto_duration,
    error::Error,
    trace,
    v1::{
        ChatMessage, Constraint, ContentPart, GenerateDone, GenerateRequest, GenerateResponse,
        Sampling, Tool, ToolCall, constraint::Constraint as Notation, content_part::Part,
        inference_service,
    },
};

/// Generates text. Made by [`Client::generate`].
#[derive(Clone, Debug)]
#[must_use = "nothing is generated before `stream` or `text`"]
pub struct Generate {
    client: Client,
    request: GenerateRequest,
}

/// An answer as it is made: chunks, then one [`GenerateEvent::Done`], or an error.
///
/// Dropping it ends the generation. After its last event the call is over, and dropping it cancels nothing.
#[derive(Debug)]
pub struct GenerateStream {
    responses: Option<Streaming<GenerateResponse>>,
    /// Kept until the call has ended.
    done: Option<GenerateDone>,
    server: String,
    span: Span,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text; of several answers, that of the first.
    pub text: String,
    /// What the model thought before it, where that is told apart.
    pub reasoning: String,
    /// Why it ended, how many tokens it took and how long; of each of several answers too.
    pub done: GenerateDone,
}

impl Client {
    /// Generates text: a prompt or a conversation, of a text or multimodal model that is ready.
    pub fn generate(&self, model_id: impl Into<String>) -> Generate {
        Generate::new(self.clone(), model_id.into())
    }
}

impl Generate {
    pub(crate) fn new(client: Client, model_id: String) -> Self {
        Self {
            client,
            request: GenerateRequest {
                model_id,
                ..Default::default()
            },
        }
    }

    /// Text to go on with, as it is. In place of messages.
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.request.prompt = prompt.into();
        self
    }

    /// The prompt as tokens, as it is. In place of messages.
    pub fn prompt_token_ids(mut self, tokens: impl Into<Vec<u32>>) -> Self {
        self.request.prompt_token_ids = tokens.into();
        self
    }

    /// Adds a message to the conversation. `role` is "system", "user", "assistant" or "tool".
    pub fn message(mut self, role: impl Into<String>, content: impl Into<String>) -> Self {
        let message = ChatMessage {
            role: role.into(),
            content: content.into(),
            ..Default::default()
        };
        self.request.messages.push(message);
        self
    }

    /// Adds a message of the role "user" with images before its text, for models that take images. `images`
    /// are the contents of PNG, JPEG, WebP, GIF or BMP files.
    pub fn message_with_images<I>(self, images: I, text: impl Into<String>) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Bytes>,
    {
        let images = images.into_iter().map(|image| Part::Image(image.into()));
        self.parts("user", images.chain([Part::Text(text.into())]))
    }

    /// Adds a message in parts: texts and images in any order.
    pub fn parts(mut self, role: impl Into<String>, parts: impl IntoIterator<Item = Part>) -> Self {
        let parts = parts
            .into_iter()
            .map(|part| ContentPart { part: Some(part) });
        let message = ChatMessage {
            role: role.into(),
            parts: parts.collect(),
            ..Default::default()
        };
        self.request.messages.push(message);
        self
    }

    /// A function that the model may call. Only for messages. Calls that it asks for are in the end's
    /// `tool_calls`.
    pub fn tool(mut self, tool: Tool) -> Self {
        self.request.tools.push(tool);
        self
    }

    /// Which of the functions it may call: "auto" (the default), "none", "required", or a name.
    pub fn tool_choice(mut self, choice: impl Into<String>) -> Self {
        self.request.tool_choice = choice.into();
        self
    }

    /// Adds a message in which the assistant asked for these calls.
    pub fn tool_calls(mut self, calls: impl IntoIterator<Item = ToolCall>) -> Self {
        self.request.messages.push(ChatMessage {
            role: "assistant".to_owned(),
            tool_calls: calls.into_iter().collect(),
            ..Default::default()
        });
        self
    }

    /// Adds a message with the result of the call with this id.
    pub fn tool_result(mut self, id: impl Into<String>, result: impl Into<String>) -> Self {
        self.request.messages.push(ChatMessage {
            role: "tool".to_owned(),
            content: result.into(),
            tool_call_id: id.into(),
            ..Default::default()
        });
        self
    }

    /// Longest answer in tokens; never exceeded. Not called, or zero: the spec's default, else that of the model, else
    /// what the context leaves.
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.request.max_tokens = tokens;
        self
    }

    /// Adds a text that ends the answer and is not part of it.
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.request.stop.push(text.into());
        self
    }

    /// From 0 (always the most likely token) to 2. Not called: the spec's default, else the model's own, else 1.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.sampling_mut().temperature = Some(temperature);
        self
    }

    /// Smallest set of tokens whose probabilities add up to this, in (0, 1].
    pub fn top_p(mut self, top_p: f32) -> Self {
        self.sampling_mut().top_p = Some(top_p);
        self
    }

    /// The K most likely tokens; 0 for all.
    pub fn top_k(mut self, top_k: u32) -> Self {
        self.sampling_mut().top_k = Some(top_k);
        self
    }

    /// Tokens at least this likely, relative to the most likely one, in [0, 1].
    pub fn min_p(mut self, min_p: f32) -> Self {
        self.sampling_mut().min_p = Some(min_p);
        self
    }

    /// All sampling parameters at once, in place of those that were set before.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.request.sampling = Some(sampling);
        self
    }

    /// Same seed, same model, same request: same answer, whatever else is asked at the time. Without one, each answer
    /// is another.
    pub fn seed(mut self, seed: u64) -> Self {
        self.request.seed = Some(seed);
        self
    }

    /// Gives the log probability of each token, and of this many of the most likely ones (at most 20).
    pub fn logprobs(mut self, top: u32) -> Self {
        self.request.logprobs = true;
        self.request.top_logprobs = top;
        self
    }

    /// The answer conforms to this JSON schema. In place of another constraint.
    pub fn json_schema(self, schema: impl Into<String>) -> Self {
        self.constraint(Notation::JsonSchema(schema.into()))
    }

    /// The whole answer matches this regular expression. In place of another constraint.
    pub fn regex(self, regex: impl Into<String>) -> Self {
        self.constraint(Notation::Regex(regex.into()))
    }

    /// The answer conforms to this grammar in Lark's notation. In place of another constraint.
    pub fn lark(self, grammar: impl Into<String>) -> Self {
        self.constraint(Notation::Lark(grammar.into()))
    }

    /// Sets a variable of the chat template, for example `enable_thinking` to `false`. Only for messages.
    pub fn template_option(
        mut self,
        name: impl Into<String>,
        value: impl Into<prost_types::Value>,
    ) -> Self {
        let options = self.request.chat_template_options.get_or_insert_default();
        options.fields.insert(name.into(), value.into());
        self
    }

    /// Of waiting requests, the one with the highest priority runs first. The default is 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.request.priority = priority;
        self
    }

    /// Ends the generation after this time, queue included, with DEADLINE_EXCEEDED.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout = Some(to_proto_duration(timeout));
        self
    }

    /// Id for logs and traces, so that it should hold no secret. At most 128 characters. Not called: none.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request.request_id = request_id.into();
        self
    }

    /// Changes the request in ways that the other methods do not offer.
    pub fn with(mut self, change: impl FnOnce(&mut GenerateRequest)) -> Self {
        change(&mut self.request);
        self
    }

    /// Begins the answer. Never tried again: part of it may have been made.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND, MODEL_NOT_LOADED, MODEL_LOADING, QUEUE_FULL,
    /// CONTEXT_EXCEEDED or INVALID_FIELD.
    pub async fn stream(self) -> Result<GenerateStream, Error> {
        let span = trace::client_span(inference_service::GENERATE);
        let server = self.client.server().to_owned();
        let mut stub = self.client.inference_service();
        match stub.generate(self.request).instrument(span.clone()).await {
            Ok(response) => Ok(GenerateStream {
                responses: Some(response.into_inner()),
                done: None,
                server,
                span,
            }),
            Err(status) => {
                let error = Error::from_status(&server, status);
                trace::record(&span, Some(&error));
                Err(error)
            }
        }
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    ///
    /// As [`stream`](Self::stream), and when the answer breaks off: [`Error::Refused`] with
    /// MODEL_UNLOADED, WORKER_DIED, WORKER_HUNG or DEADLINE_EXCEEDED.
    pub async fn text(self) -> Result<Completion, Error> {
        let mut stream = self.stream().await?;
        let (mut text, mut reasoning) = (String::new(), String::new());
        while let Some(event) = stream.next().await {
            match event? {
                GenerateEvent::Chunk(chunk) if chunk.index > 0 => {}
                GenerateEvent::Chunk(chunk) => {
                    text.push_str(&chunk.text);
                    reasoning.push_str(&chunk.reasoning);
                }
                GenerateEvent::Done(done) => {
                    return Ok(Completion {
                        text,
                        reasoning,
                        done,
                    });
                }
            }
        }
        Err(UNFINISHED)
    }

    fn constraint(mut self, notation: Notation) -> Self {
        self.request.constraint = Some(Constraint {
            constraint: Some(notation),
        });
        self
    }

    fn sampling_mut(&mut self) -> &mut Sampling {
        self.request.sampling.get_or_insert_default()
    }
}

const UNFINISHED: Error = Error::Protocol("the answer ended without saying why");

impl GenerateStream {
    /// The next piece. `None` after [`GenerateEvent::Done`] or an error.
    pub async fn next(&mut self) -> Option<Result<GenerateEvent, Error>> {
        StreamExt::next(self).await
    }

    fn end(&mut self, error: Option<&Error>) {
        self.responses = None;
        trace::record(&self.span, error);
    }
}

impl Stream for GenerateStream {
    type Item = Result<GenerateEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let Some(responses) = &mut this.responses else {
                return Poll::Ready(None);
            };
            let error = match ready!(responses.poll_next_unpin(cx)) {
                Some(Ok(GenerateResponse {
                    event: Some(GenerateEvent::Done(done)),
                })) => {
                    this.done = Some(done);
                    continue;
                }
                Some(Ok(GenerateResponse { event: Some(event) })) => {
                    return Poll::Ready(Some(Ok(event)));
                }
                // An event that is newer than this client.
                Some(Ok(GenerateResponse { event: None })) => continue,
                // However the call ended, the answer is whole.
                _ if let Some(done) = this.done.take() => {
                    this.end(None);
                    return Poll::Ready(Some(Ok(GenerateEvent::Done(done))));
                }
                Some(Err(status)) => Error::from_status(&this.server, status),
                None => UNFINISHED,
            };
            this.end(Some(&error));
            return Poll::Ready(Some(Err(error)));
        }
    }
}
