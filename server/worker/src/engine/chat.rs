//! Puts a conversation into the model's chat template, as transformers does it.
//!
//! The reference is `apply_chat_template` of transformers 5: its environment of Jinja, its functions and filters,
//! its variables and no others. The template library differs from Jinja in places; what chat templates count on is
//! in the modules below. Rendered here and not by the engine, the variables are the caller's, the tokens can be
//! counted before the engine sees the request, and a faulty template cannot disturb it.

mod functions;
mod lazy;
mod messages;
mod python;
mod strings;
mod template_source;
mod to_json;
mod tokens;
mod value;

use std::io;

use hangar_client::v1::ChatMessage;
use minijinja::{Environment, Error, value::Value};
use serde_json::{Map, Value as Json};
use tokio_util::sync::CancellationToken;

pub(crate) use self::messages::{Content, Message, MessagePart};
use self::{
    messages::ContentForm,
    value::{dict, list, value},
};
use crate::{failure::truncated, inspect::Templates, tool_calls::ToolCallFormat};

/// Longest error of a template in characters: it may repeat what it was given.
const MAX_WORDS: usize = 400;

/// Names of the templates in their environment.
const NAME: &str = "chat";
const WITH_TOOLS: &str = "tools";

/// What a template is tried with: a text that it does not write by itself.
const PROBE: &str = "Hangar says hello.";

/// What a template writes, as long as somebody waits for it.
struct AwaitedText<'a> {
    bytes: Vec<u8>,
    cancelled: &'a CancellationToken,
}

/// A chat template that was compiled.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// The special tokens, which every conversation gets.
    special: Map<String, Json>,
    /// Source of the template for conversations without tools, if there is one.
    source: Option<String>,
    /// Source of the template for conversations with tools.
    with_tools: String,
    /// What it takes as content.
    form: ContentForm,
}

impl ChatTemplate {
    /// Compiles the templates. `own` come with the model, whose special tokens these are; `given`, unless it is
    /// empty, takes their place, and is tried with a short conversation.
    ///
    /// The error says in words why conversations are not possible.
    pub(crate) fn of(
        own: &Templates,
        special: &Map<String, Json>,
        given: &str,
    ) -> Result<Self, String> {
        let (source, with_tools) = match given {
            "" => (own.named("default"), own.named("tool_use")),
            given => (Some(given), None),
        };
        let with_tools = with_tools.or(source).ok_or_else(|| own.why_none())?;
        let mut chat = Self {
            environment: environment(),
            special: special.clone(),
            source: source.map(ToOwned::to_owned),
            with_tools: with_tools.to_owned(),
            form: ContentForm::Texts,
        };
        for (name, source) in source
            .map(|source| (NAME, source))
            .into_iter()
            .chain([(WITH_TOOLS, with_tools)])
        {
            chat.environment
                .add_template_owned(name, template_source::rewritten(source))
                .map_err(|e| format!("the chat template is broken: {}", error_text(&e)))?;
        }
        chat.form = chat.accepted_form();
        // What comes with the model is judged by each conversation: it may want a system message, or parts.
        if !given.is_empty() {
            chat.try_out(&Content::Text(PROBE.into()))
                .map_err(|e| format!("the chat template fails: {e}"))?;
        }
        Ok(chat)
    }

    /// Whether the template has a place for tools.
    pub(crate) fn takes_tools(&self) -> bool {
        self.with_tools.contains("tools")
    }

    /// How the model writes calls.
    pub(crate) fn tool_call_format(&self) -> Option<ToolCallFormat> {
        ToolCallFormat::of(&self.with_tools)
    }

    /// Whether the template has this text.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.with_tools.contains(text) || self.source.as_ref().is_some_and(|it| it.contains(text))
    }

    /// The prompt for a conversation, up to where the answer begins. `options` are variables for the template and
    /// take precedence over special tokens. The error is the template's.
    pub(crate) fn render(
        &self,
        messages: &[Message<'_>],
        tools: &[Json],
        options: &Map<String, Json>,
        cancelled: &CancellationToken,
    ) -> Result<String, String> {
        if tools.is_empty() && self.source.is_none() {
            return Err("it is for conversations with tools only".into());
        }
        self.render_as(self.form, messages, tools, options, cancelled)
    }

    fn render_as(
        &self,
        form: ContentForm,
        messages: &[Message<'_>],
        tools: &[Json],
        options: &Map<String, Json>,
        cancelled: &CancellationToken,
    ) -> Result<String, String> {
        let messages = messages.iter().map(|message| message.value(form));
        let (name, tools) = match tools {
            [] if self.source.is_some() => (NAME, Value::from(())),
            [] => (WITH_TOOLS, Value::from(())),
            tools => (WITH_TOOLS, list(tools.iter().map(value).collect())),
        };
        let given = self.special.iter().chain(options);
        let given = given.map(|(name, it)| (name.clone(), value(it)));
        let documents = options.get("documents").map_or(Value::from(()), value);
        let own = [
            ("messages", list(messages.collect())),
            ("tools", tools),
            ("documents", documents),
            ("add_generation_prompt", Value::from(true)),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let mut prompt = AwaitedText {
            bytes: Vec::new(),
            cancelled,
        };
        self.environment
            .get_template(name)
            .and_then(|template| {
                let rendered = template.render_captured_to(dict(given.chain(own)), &mut prompt);
                rendered.map(drop)
            })
            .map_err(|e| error_text(&e))?;
        // It is made of strings.
        String::from_utf8(prompt.bytes).map_err(|e| e.to_string())
    }

    /// What the template takes as content: a list is no use to one that prints it or fails, and a text none to one
    /// in whose prompt it is not.
    fn accepted_form(&self) -> ContentForm {
        let shows = |content: Content, form| {
            self.try_out_as(&content, form)
                .is_ok_and(|prompt| prompt.contains(PROBE) && !prompt.contains("'type'"))
        };
        let parts = Content::Parts(vec![MessagePart::Text(PROBE.into())]);
        let takes_lists = shows(parts, ContentForm::Both);
        let takes_texts = shows(Content::Text(PROBE.into()), ContentForm::Both);
        match (takes_texts, takes_lists) {
            (true, true) => ContentForm::Both,
            (false, true) => ContentForm::Lists,
            (_, false) => ContentForm::Texts,
        }
    }

    fn try_out(&self, content: &Content) -> Result<String, String> {
        self.try_out_as(content, self.form)
    }

    /// Puts short conversations into the template. The error is what it says of the first, when it takes none.
    fn try_out_as(&self, content: &Content, form: ContentForm) -> Result<String, String> {
        let [user, system] = ["user", "system"].map(|role| ChatMessage {
            role: role.into(),
            ..ChatMessage::default()
        });
        let message = |message, content: &Content| Message {
            message,
            content: content.clone(),
            fields: Map::new(),
        };
        let rules = Content::Text("Be short.".into());
        let never = CancellationToken::new();
        let alone = [message(&user, content)];
        let with_system = [message(&system, &rules), message(&user, content)];
        let render =
            |messages: &[Message<'_>]| self.render_as(form, messages, &[], &Map::new(), &never);
        render(&alone).or_else(|why| render(&with_system).map_err(|_| why))
    }
}

impl io::Write for AwaitedText<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancelled.is_cancelled() {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An environment as the reference has it.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_lstrip_blocks(true);
    environment.set_trim_blocks(true);
    functions::add(&mut environment);
    environment
}

/// An error of the template library and what caused it, in one line that is not too long.
fn error_text(error: &Error) -> String {
    let detail = error
        .detail()
        .map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
    let mut error_text = truncated(&detail, MAX_WORDS);
    if let Some(line) = error.line() {
        error_text.push_str(&format!(" (line {line} of the template)"));
    }
    error_text
}

#[cfg(test)]
mod tests;
