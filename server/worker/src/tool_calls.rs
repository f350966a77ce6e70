//! Calls of functions in the text of an answer.
//!
//! A model writes a call in the format of its chat template. From where a call may begin the text is held
//! back; at the answer's end it is either calls, each of a function that was offered, or text. So a caller
//! never sees half of a call, and loses no text that is none.

use hangar_client::v1::ToolCall;
use serde_json::{Map, Value, json};

use crate::stop::StopMatcher;

/// Length of a call's id. Mistral's chat templates take no other.
const ID: usize = 9;

/// Openings of an answer from which calls are read, until they can be.
const OPENINGS: usize = 16;

/// How a model writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ToolCallFormat {
    /// `<tool_call>{"name": "f", "arguments": {}}</tool_call>`, several one after the other: Hermes, Qwen.
    Tagged,
    /// `[TOOL_CALLS][{"name": "f", "arguments": {}}]`: Mistral.
    Listed,
    /// The whole answer is `{"name": "f", "parameters": {}}`: Llama 3.
    Bare,
}

/// A function that may be called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// JSON schema of its parameters.
    pub(crate) parameters: Value,
    /// As the chat template gets it.
    pub(crate) definition: Value,
}

/// Looks for calls in an answer.
#[derive(Debug)]
pub(crate) struct ToolCallParser {
    format: ToolCallFormat,
    /// Functions that may be called.
    names: Vec<String>,
    /// Finds the opening.
    opening: StopMatcher,
    /// Text from the opening on.
    pending: String,
    state: ToolCallState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToolCallState {
    /// A call may begin.
    Outside,
    /// The prompt has the opening: the answer is a call from its first character.
    Prompted,
    /// What is pending is calls, or will turn out to be none.
    Inside,
    /// No call may begin any more.
    Text,
}

impl ToolCallFormat {
    /// The one of a chat template. `None`: it is another one, or the template has no place for functions.
    pub(crate) fn of(template: &str) -> Option<Self> {
        let has = |text: &str| template.contains(text);
        // Qwen3-Coder writes XML in the same tags; Mistral's later models write names before their lists.
        if has("<tool_call>") && !has("<function=") && !has("<arg_key>") {
            Some(Self::Tagged)
        } else if has("[TOOL_CALLS]") && !has("[ARGS]") && !has("[CALL_ID]") {
            Some(Self::Listed)
        } else if has("{\"name\": function name, \"parameters\": dictionary") {
            Some(Self::Bare)
        } else {
            None
        }
    }

    /// What stands before the first call.
    fn opening(self) -> &'static str {
        match self {
            Self::Tagged => "<tool_call>",
            Self::Listed => "[TOOL_CALLS]",
            Self::Bare => "",
        }
    }

    /// What a prompt ends with behind which a call has to come.
    pub(crate) fn prompt(self) -> &'static str {
        match self {
            // As the models were trained to go on.
            Self::Tagged => "<tool_call>\n",
            Self::Listed | Self::Bare => self.opening(),
        }
    }

    /// Texts that may be tokens of their own.
    fn tags(self) -> &'static [&'static str] {
        match self {
            Self::Tagged => &["<tool_call>", "</tool_call>"],
            Self::Listed => &["[TOOL_CALLS]"],
            Self::Bare => &[],
        }
    }

    /// The name of a call's arguments.
    fn arguments(self) -> &'static str {
        match self {
            Self::Tagged | Self::Listed => "arguments",
            Self::Bare => "parameters",
        }
    }

    /// JSON schema of what follows the opening: one call of one of `functions`.
    pub(crate) fn schema(self, functions: &[&Function]) -> Value {
        let arguments = self.arguments();
        let root = match self {
            Self::Listed => "#/items",
            Self::Tagged | Self::Bare => "#",
        };
        let call = |(n, function): (usize, &&Function)| {
            let mut parameters = function.parameters.clone();
            move_references(
                &mut parameters,
                &format!("{root}/anyOf/{n}/properties/{arguments}"),
            );
            json!({
                "type": "object",
                "properties": {"name": {"const": function.name}, arguments: parameters},
                "required": ["name", arguments],
                "additionalProperties": false,
            })
        };
        let calls: Vec<Value> = functions.iter().enumerate().map(call).collect();
        let one = json!({ "anyOf": calls });
        match self {
            Self::Listed => json!({"type": "array", "items": one, "minItems": 1, "maxItems": 1}),
            Self::Tagged | Self::Bare => one,
        }
    }

    /// What calls begin with behind the opening, if the opening alone does not say.
    fn first(self) -> Option<char> {
        match self {
            Self::Tagged => Some('{'),
            Self::Listed => Some('['),
            Self::Bare => None,
        }
    }
}

/// Has the references of a schema point to where it lies in another one.
fn move_references(schema: &mut Value, to: &str) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => {
                        if let Some(rest) = text.strip_prefix('#')
                            && (rest.is_empty() || rest.starts_with('/'))
                        {
                            *text = format!("{to}{rest}");
                        }
                    }
                    _ if matches!(name.as_str(), "const" | "enum" | "default" | "examples") => {}
                    value => move_references(value, to),
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                move_references(value, to);
            }
        }
        _ => {}
    }
}

impl ToolCallParser {
    /// Looks for calls of these functions. `prompted`: the prompt ends with the opening.
    pub(crate) fn new(format: ToolCallFormat, names: Vec<String>, prompted: bool) -> Self {
        Self {
            format,
            names,
            opening: StopMatcher::new([format.opening().to_owned()]),
            pending: String::new(),
            state: if prompted {
                ToolCallState::Prompted
            } else {
                ToolCallState::Outside
            },
        }
    }

    /// Texts of the format that may be tokens of their own.
    pub(crate) fn tags(&self) -> &'static [&'static str] {
        self.format.tags()
    }

    /// Takes further text and adds what is no part of a call to `out`.
    pub(crate) fn push(&mut self, text: &str, out: &mut String) {
        match self.state {
            ToolCallState::Prompted => self.pending.push_str(text),
            ToolCallState::Inside => {
                self.pending.push_str(text);
                self.reconsider(out);
            }
            ToolCallState::Text => out.push_str(text),
            ToolCallState::Outside if self.format == ToolCallFormat::Bare => {
                self.pending.push_str(text);
                match self.pending.trim_start().chars().next() {
                    None => {}
                    Some('{') => self.state = ToolCallState::Inside,
                    Some(_) => {
                        self.state = ToolCallState::Text;
                        out.push_str(&std::mem::take(&mut self.pending));
                    }
                }
            }
            ToolCallState::Outside => {
                if self.opening.push(text, out).is_some() {
                    self.state = ToolCallState::Inside;
                    self.pending = self.opening.take_pending();
                    self.reconsider(out);
                }
            }
        }
    }

    /// Gives out an opening that no call follows: one that is only talked about.
    fn reconsider(&mut self, out: &mut String) {
        let opening = self.format.opening();
        let first = self.pending[opening.len()..].trim_start().chars().next();
        if self.format.first().is_none() || first.is_none() || first == self.format.first() {
            return;
        }
        let rest = self.pending.split_off(opening.len());
        out.push_str(&std::mem::take(&mut self.pending));
        self.state = ToolCallState::Outside;
        self.push(&rest, out);
    }

    /// Whether the prompt ends with the opening.
    pub(crate) fn is_prompted(&self) -> bool {
        self.state == ToolCallState::Prompted
    }

    /// The calls of an answer that has ended; what comes before them goes to `out`. Empty: there are none.
    pub(crate) fn calls(&mut self, out: &mut String) -> Vec<ToolCall> {
        match self.state {
            ToolCallState::Prompted => return self.parse(&self.pending).unwrap_or_default(),
            ToolCallState::Outside | ToolCallState::Text => return Vec::new(),
            ToolCallState::Inside => {}
        }
        let opening = self.format.opening();
        for _ in 0..OPENINGS {
            let calls = self.pending.trim_start().strip_prefix(opening);
            let calls = calls
                .and_then(|calls| self.parse(calls))
                .unwrap_or_default();
            if !calls.is_empty() {
                self.pending.clear();
                return calls;
            }
            let next = self
                .pending
                .get(opening.len()..)
                .and_then(|rest| rest.find(opening));
            let Some(next) = next.filter(|_| !opening.is_empty()) else {
                break;
            };
            let calls = self.pending.split_off(opening.len() + next);
            out.push_str(&std::mem::replace(&mut self.pending, calls));
        }
        Vec::new()
    }

    /// Ends the answer: what was held back is text.
    pub(crate) fn finish(&mut self, out: &mut String) {
        self.opening.finish(out);
        out.push_str(&std::mem::take(&mut self.pending));
        self.state = ToolCallState::Text;
    }

    /// The calls of a text behind its opening; `None` if it has anything else.
    fn parse(&self, text: &str) -> Option<Vec<ToolCall>> {
        let values = match self.format {
            ToolCallFormat::Listed => serde_json::from_str(text.trim()).ok()?,
            ToolCallFormat::Tagged | ToolCallFormat::Bare => {
                let mut values = Vec::new();
                let mut rest = text.trim();
                while !rest.is_empty() {
                    let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
                    values.push(stream.next()?.ok()?);
                    rest = self.behind(rest[stream.byte_offset()..].trim())?;
                }
                values
            }
        };
        values.into_iter().map(|value| self.call(value)).collect()
    }

    /// The next call's text, given what follows a call.
    fn behind<'a>(&self, rest: &'a str) -> Option<&'a str> {
        if rest.is_empty() {
            return Some(rest);
        }
        let rest = match self.format {
            ToolCallFormat::Bare => rest.strip_prefix(';')?,
            _ => {
                let rest = rest.strip_prefix("</tool_call>")?.trim_start();
                match rest.strip_prefix("<tool_call>") {
                    None if !rest.is_empty() => return None,
                    None => rest,
                    Some(rest) => rest,
                }
            }
        };
        Some(rest.trim_start())
    }

    fn call(&self, mut value: Value) -> Option<ToolCall> {
        let name = value.get("name").or_else(|| value.get("function"));
        let name = name?.as_str()?.to_owned();
        if !self.names.contains(&name) {
            return None;
        }
        // Models mix up the notations' names for them.
        let keys = [self.format.arguments(), "arguments", "parameters"];
        let key = keys.iter().find(|key| value.get(key).is_some());
        let arguments = match key.and_then(|key| value.get_mut(key)).map(Value::take) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            // Some models write them as a text of JSON.
            Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
            Some(_) => return None,
        };
        Some(ToolCall {
            id: std::iter::repeat_with(fastrand::alphanumeric)
                .take(ID)
                .collect(),
            name,
            arguments: Value::Object(arguments).to_string(),
        })
    }
}

#[cfg(test)]
mod tests;
