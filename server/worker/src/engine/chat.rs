//! Puts a conversation into the model's chat template.
//!
//! Done as the engine does it (the same template library, settings, functions and rewriting of what the
//! library does not know), so that a conversation gives the prompt that the engine would make; but here,
//! where the variables are the caller's, the tokens can be counted before the engine sees the request, and
//! a faulty template cannot disturb the engine.

use std::collections::HashMap;

use chrono::Utc;
use either::Either;
use hangar_client::v1::ChatMessage;
use minijinja::{
    Environment, Error, ErrorKind,
    value::{Kwargs, Value},
};
use mistralrs::core::ChatTemplate;
use serde_json::{Map, json};

use crate::{calls::Notation, inspect::template_source};

/// Longest error of a template in characters: it may repeat what it was given.
const MAX_WORDS: usize = 400;

/// Names of the templates in their environment.
const NAME: &str = "chat";
const WITH_TOOLS: &str = "tools";

/// A chat template that was compiled.
#[derive(Debug)]
pub(crate) struct Chat {
    environment: Environment<'static>,
    /// Variables that every conversation gets.
    variables: Map<String, serde_json::Value>,
    /// The template for conversations with tools.
    with_tools: String,
    /// Token at the beginning of a text, if the model has one.
    pub(crate) bos_token: Option<String>,
}

impl Chat {
    /// Compiles the template. `own` comes with the model; `given`, unless it is empty, takes its place, and is tried
    /// with a short conversation.
    ///
    /// The error says in words why conversations are not possible.
    pub(crate) fn of(own: Option<&ChatTemplate>, given: &str) -> Result<Self, String> {
        let (source, with_tools) = match given {
            "" => {
                let source = own.and_then(template_source);
                let source = source.ok_or("the model has no chat template")?;
                let with_tools = own.and_then(source_with_tools);
                let with_tools = with_tools.unwrap_or_else(|| source.clone());
                (source, with_tools)
            }
            given => (given.to_owned(), given.to_owned()),
        };
        let mut environment = Environment::new();
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_lstrip_blocks(true);
        environment.set_trim_blocks(true);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", tojson);
        environment.add_function("strftime_now", strftime_now);
        for (name, source) in [(NAME, &source), (WITH_TOOLS, &with_tools)] {
            environment
                .add_template_owned(name, rewritten(source))
                .map_err(|e| format!("the chat template is broken: {}", words(&e)))?;
        }
        let bos_token = own.and_then(ChatTemplate::bos_tok);
        let variables = json!({
            "bos_token": bos_token,
            "eos_token": own.and_then(ChatTemplate::eos_tok),
            "unk_token": own.and_then(ChatTemplate::unk_tok),
            "enable_thinking": true,
            "reasoning_effort": "medium",
        });
        let serde_json::Value::Object(variables) = variables else {
            return Err("the variables are an object".into());
        };
        let chat = Self {
            environment,
            variables,
            with_tools,
            bos_token,
        };
        // What comes with the model is judged by each conversation: it may want a system message, or parts.
        if !given.is_empty() {
            chat.try_out()
                .map_err(|e| format!("the chat template fails: {e}"))?;
        }
        Ok(chat)
    }

    /// Puts short conversations into the template. The error is what it says of the first, when it takes none.
    fn try_out(&self) -> Result<(), String> {
        let message = |role: &str| ChatMessage {
            role: role.into(),
            content: "Hello".into(),
            ..ChatMessage::default()
        };
        let alone = self.render(&[message("user")], &[], &Map::new());
        let with_system = || self.render(&[message("system"), message("user")], &[], &Map::new());
        match alone.or_else(|why| with_system().map_err(|_| why)) {
            Ok(_) => Ok(()),
            Err(why) => Err(why),
        }
    }

    /// Whether the template has a place for tools.
    pub(crate) fn takes_tools(&self) -> bool {
        self.with_tools.contains("tools")
    }

    /// How the model writes calls.
    pub(crate) fn notation(&self) -> Option<Notation> {
        Notation::of(&self.with_tools)
    }

    /// The prompt for a conversation, up to where the answer begins. `options` are variables for the
    /// template and take precedence. The error is what the template said.
    pub(crate) fn render(
        &self,
        messages: &[ChatMessage],
        tools: &[serde_json::Value],
        options: &Map<String, serde_json::Value>,
    ) -> Result<String, String> {
        let mut variables = self.variables.clone();
        let today = Utc::now().format("%d, %B, %Y").to_string();
        variables.insert("date_string".into(), today.into());
        variables.extend(options.clone());
        let mut called = HashMap::new();
        let entries = messages.iter().map(|message| entry(message, &mut called));
        variables.insert("messages".into(), entries.collect());
        variables.insert("add_generation_prompt".into(), true.into());
        let name = if tools.is_empty() { NAME } else { WITH_TOOLS };
        if !tools.is_empty() {
            variables.insert("tools".into(), tools.to_vec().into());
        }
        self.environment
            .get_template(name)
            .and_then(|template| template.render(Value::from_serialize(&variables)))
            .map_err(|e| words(&e))
    }
}

/// A message as templates get it. A result is under the name of the function too, which some of them print:
/// `called` has the functions of the calls so far by their ids.
fn entry<'a>(
    message: &'a ChatMessage,
    called: &mut HashMap<&'a str, &'a str>,
) -> serde_json::Value {
    let mut entry = json!({"role": message.role, "content": message.content});
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            called.insert(&call.id, &call.name);
            let arguments: serde_json::Value =
                serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            let function = json!({"name": call.name, "arguments": arguments});
            json!({"id": call.id, "type": "function", "function": function})
        });
        entry["tool_calls"] = calls.collect();
    }
    if !message.tool_call_id.is_empty() {
        entry["tool_call_id"] = message.tool_call_id.as_str().into();
        if let Some(name) = called.get(message.tool_call_id.as_str()) {
            entry["name"] = (*name).into();
        }
    }
    entry
}

/// The template for conversations with tools, if it is one of its own.
fn source_with_tools(template: &ChatTemplate) -> Option<String> {
    let Either::Right(named) = &template.chat_template.as_ref()?.0 else {
        return None;
    };
    let entry = named
        .iter()
        .find(|entry| entry.get("name").is_some_and(|name| name == "tool_use"))?;
    entry.get("template").cloned()
}

/// Replaces what templates for Python use and the template library does not have.
fn rewritten(source: &str) -> String {
    let mut source = descending_ranges(&source.replace("[::-1]", "|reverse"));
    if source.contains("{{ meta }}") {
        source = source
            .replace("{%- set meta = message.get(\"metadata\", \"\") %}", "")
            .replace("{{ meta }}", "");
    }
    without_generation(&source)
}

/// Turns the marks around what the model has said, which are for training, into a block that is always taken, so
/// that what they cut off of the white space around them stays cut off.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(length) = rest[at..].find("%}") else {
            break;
        };
        let (before, after) = rest.split_at(at);
        let tag = &after[..length];
        let inner = tag[2..].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        let replaced = match inner {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        };
        out.push_str(before);
        out.push_str(&replaced);
        rest = &after[length..];
    }
    out + rest
}

/// Turns `range(N, -1, -1)` into `range(N)|reverse`.
fn descending_ranges(source: &str) -> String {
    const OPEN: &str = "range(";
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find(OPEN) {
        let (before, after) = rest.split_at(at + OPEN.len());
        out.push_str(before);
        rest = after;
        if let Some((first, tail)) = after.split_once(',')
            && !first.is_empty()
            && let Some(tail) = downwards(tail)
        {
            out.push_str(first);
            out.push_str(")|reverse");
            rest = tail;
        }
    }
    out + rest
}

/// What follows ` -1, -1)`.
fn downwards(text: &str) -> Option<&str> {
    text.trim_start()
        .strip_prefix("-1,")?
        .trim_start()
        .strip_prefix("-1)")
}

/// An error of the template library and what caused it, in one line that is not too long.
fn words(error: &Error) -> String {
    let detail = error
        .detail()
        .map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
    let mut words: String = detail.chars().take(MAX_WORDS).collect();
    if words.len() < detail.len() {
        words.push('…');
    }
    if let Some(line) = error.line() {
        words.push_str(&format!(" (line {line} of the template)"));
    }
    words
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: String) -> Result<String, Error> {
    use std::fmt::Write;
    let mut now = String::new();
    // An unknown specifier makes the formatting fail.
    write!(now, "{}", Utc::now().format(&format))
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "strftime_now: bad format"))?;
    Ok(now)
}

fn tojson(value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    let bad = |e: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "cannot serialize to JSON").with_source(e)
    };
    let text = if let Ok(indent) = kwargs.get::<usize>("indent") {
        let indent = b" ".repeat(indent.min(16));
        let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        serde::Serialize::serialize(&value, &mut serializer).map_err(bad)?;
        String::from_utf8_lossy(&bytes).into_owned()
    } else {
        serde_json::to_string(&value).map_err(bad)?
    };
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\'' => safe.push_str("\\u0027"),
            _ => safe.push(c),
        }
    }
    Ok(Value::from_safe_string(safe))
}

#[cfg(test)]
mod tests;
