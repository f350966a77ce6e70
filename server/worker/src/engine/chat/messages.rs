//! Messages as chat templates get them: what the reference hands on of what a caller gave, under the same names and
//! in the same order.

use hangar_client::v1::{ChatMessage, ToolCall};
use minijinja::value::Value;
use serde_json::{Map, Value as Json, json};

use super::value::value;

/// Names under which templates look for what the assistant has thought; the first is the usual one.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A message of a conversation.
#[derive(Debug, Clone)]
pub(crate) struct Message<'a> {
    /// Everything but its content.
    pub(crate) message: &'a ChatMessage,
    /// What is said.
    pub(crate) content: Content,
    /// The caller's other fields.
    pub(crate) fields: Map<String, Json>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Nothing: the message has only calls.
    None,
    /// A text.
    Text(String),
    /// Parts.
    Parts(Vec<MessagePart>),
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MessagePart {
    /// A text.
    Text(String),
    /// An image, and what stands for it in a text.
    Image(&'static str),
}

/// What a template takes as content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentForm {
    /// Texts only.
    Texts,
    /// Texts, and lists of parts.
    Both,
    /// Lists of parts only.
    Lists,
}

impl Message<'_> {
    /// As the template gets it.
    pub(super) fn value(&self, form: ContentForm) -> Value {
        let mut entry = Map::new();
        entry.insert("role".into(), self.message.role.as_str().into());
        if let Some(content) = self.content.json(form) {
            entry.insert("content".into(), content);
        }
        for (name, text) in [
            ("reasoning_content", &self.message.reasoning),
            ("name", &self.message.name),
        ] {
            if !text.is_empty() {
                entry.insert(name.into(), text.as_str().into());
            }
        }
        if !self.message.tool_calls.is_empty() {
            let calls = self.message.tool_calls.iter().map(call);
            entry.insert("tool_calls".into(), calls.collect());
        }
        if !self.message.tool_call_id.is_empty() {
            let id = self.message.tool_call_id.as_str();
            entry.insert("tool_call_id".into(), id.into());
        }
        entry.extend(self.fields.clone());
        entry.retain(|_, value| !value.is_null());
        value(&Json::Object(with_reasoning(entry)))
    }
}

impl Content {
    fn json(&self, form: ContentForm) -> Option<Json> {
        let text_part = |text: &str| json!({"type": "text", "text": text});
        match (self, form) {
            (Self::None, _) => None,
            (Self::Text(text), ContentForm::Lists) => Some(json!([text_part(text)])),
            (Self::Text(text), _) => Some(text.as_str().into()),
            (Self::Parts(pieces), ContentForm::Texts) => {
                let together: String = pieces.iter().map(MessagePart::text).collect();
                Some(together.into())
            }
            (Self::Parts(pieces), _) => {
                let parts = pieces.iter().map(|piece| match piece {
                    MessagePart::Text(text) => text_part(text),
                    MessagePart::Image(_) => json!({"type": "image"}),
                });
                Some(parts.collect())
            }
        }
    }
}

impl MessagePart {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Image(mark) => mark,
        }
    }
}

fn call(call: &ToolCall) -> Json {
    let arguments: Json = serde_json::from_str(&call.arguments)
        .unwrap_or_else(|_| Json::String(call.arguments.clone()));
    let function = json!({"name": call.name, "arguments": arguments});
    let mut entry = Map::new();
    if !call.id.is_empty() {
        entry.insert("id".into(), call.id.as_str().into());
    }
    entry.insert("type".into(), "function".into());
    entry.insert("function".into(), function);
    entry.into()
}

/// The message with what was thought under each of the names that templates look for.
fn with_reasoning(entry: Map<String, Json>) -> Map<String, Json> {
    let Some(reasoning) = REASONING.iter().find_map(|name| entry.get(*name)).cloned() else {
        return entry;
    };
    let mut all = Map::new();
    all.insert("thinking".into(), reasoning.clone());
    all.extend(entry);
    all.insert("reasoning_content".into(), reasoning);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(message: &ChatMessage, content: Content, form: ContentForm) -> String {
        let message = Message {
            message,
            content,
            fields: Map::new(),
        };
        message.value(form).to_string()
    }

    #[bounded::test]
    fn a_message_has_what_was_given_in_one_order() {
        let message = ChatMessage {
            role: "assistant".into(),
            tool_calls: vec![ToolCall {
                id: "1".into(),
                name: "f".into(),
                arguments: r#"{"b": 1.0, "a": "<"}"#.into(),
            }],
            ..ChatMessage::default()
        };
        let expected = "{'role': 'assistant', 'tool_calls': [{'id': '1', 'type': 'function', \
                        'function': {'name': 'f', 'arguments': {'b': 1.0, 'a': '<'}}}]}";
        assert_eq!(shown(&message, Content::None, ContentForm::Both), expected);
    }

    #[bounded::test]
    fn reasoning_goes_to_templates_under_each_name_that_they_use() {
        let message = ChatMessage {
            role: "assistant".into(),
            reasoning: "hm".into(),
            ..ChatMessage::default()
        };
        let expected =
            "{'thinking': 'hm', 'role': 'assistant', 'content': 'x', 'reasoning_content': 'hm'}";
        assert_eq!(
            shown(&message, Content::Text("x".into()), ContentForm::Both),
            expected
        );
    }

    #[bounded::test]
    fn content_has_the_form_that_the_template_takes() {
        let message = ChatMessage {
            role: "user".into(),
            ..ChatMessage::default()
        };
        let parts = Content::Parts(vec![
            MessagePart::Image("<img>"),
            MessagePart::Text("a".into()),
        ]);
        let role = "{'role': 'user', 'content': ";
        let list = "[{'type': 'image'}, {'type': 'text', 'text': 'a'}]";
        for (content, form, expected) in [
            (parts.clone(), ContentForm::Both, list),
            (parts.clone(), ContentForm::Lists, list),
            (parts, ContentForm::Texts, "'<img>a'"),
            (Content::Text("b".into()), ContentForm::Both, "'b'"),
            (
                Content::Text("b".into()),
                ContentForm::Lists,
                "[{'type': 'text', 'text': 'b'}]",
            ),
        ] {
            assert_eq!(
                shown(&message, content, form),
                format!("{role}{expected}}}")
            );
        }
    }
}
