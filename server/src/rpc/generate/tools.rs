//! Functions that a model may call, and calls in messages: how they may look. Whether the model takes any is
//! for the worker to say.

use std::collections::HashSet;

use hangar_client::v1::{ChatMessage, GenerateRequest, Tool};
use prost::Message;
use prost_types::value::Kind;

use super::values::is_plain;
use crate::rpc::validate::Violations;

/// Most functions of a request, and the longest name of one.
const MAX_TOOLS: usize = 128;
const MAX_NAME: usize = 64;

/// Largest functions of a request in bytes, and the deepest nesting of a schema.
const MAX_BYTES: usize = 128 << 10;
const MAX_DEPTH: usize = 32;

/// Most calls of a request's messages, and the longest id of one.
const MAX_CALLS: usize = 256;
const MAX_ID: usize = 128;

/// Choices that are no names.
const CHOICES: [&str; 3] = ["auto", "none", "required"];

/// Takes note of what is wrong with the functions, the choice among them, and the messages' calls.
pub(super) fn check(request: &GenerateRequest, violations: &mut Violations) {
    check_tools(request, violations);
    check_choice(request, violations);
    check_messages(&request.messages, violations);
}

fn check_tools(request: &GenerateRequest, violations: &mut Violations) {
    const FIELD: &str = "tools";
    let tools = &request.tools;
    let needs_messages = tools.is_empty() || !request.messages.is_empty();
    violations.check(needs_messages, FIELD, "needs messages");
    let count = tools.len() <= MAX_TOOLS;
    violations.check(count, FIELD, "must have at most 128 entries");
    let bytes: usize = tools.iter().map(Message::encoded_len).sum();
    violations.check(bytes <= MAX_BYTES, FIELD, "must have at most 128 KiB");
    let mut names = HashSet::new();
    for (n, tool) in tools.iter().take(MAX_TOOLS).enumerate() {
        let at = |what: &str| format!("{FIELD}[{n}].{what}");
        let what =
            "must be 1 to 64 letters, digits, \"_\" or \"-\", and not auto, none or required";
        violations.check(is_name(&tool.name), &at("name"), what);
        let first = names.insert(tool.name.as_str());
        violations.check(first, &at("name"), "is the name of another tool too");
        let one = tool.parameters.is_none() || tool.parameters_json.is_empty();
        let what = "give either this or parameters, not both";
        violations.check(one, &at("parameters_json"), what);
        for (field, text) in [
            ("parameters_json", &tool.parameters_json),
            ("definition_json", &tool.definition_json),
        ] {
            let right = text.is_empty() || is_object(text);
            violations.check(right, &at(field), "must be a JSON object");
        }
        let what = "must be nested at most 32 deep and hold finite numbers";
        violations.check(is_schema(tool), &at("parameters"), what);
        let what = "must be \"object\", as arguments are";
        violations.check(is_of_object(tool), &at("parameters.type"), what);
    }
}

fn check_choice(request: &GenerateRequest, violations: &mut Violations) {
    const FIELD: &str = "tool_choice";
    let choice = request.tool_choice.as_str();
    if matches!(choice, "" | "auto" | "none") {
        return;
    }
    let known = match choice {
        "required" => !request.tools.is_empty(),
        name => request.tools.iter().any(|tool| tool.name == name),
    };
    let what = "must be \"auto\", \"none\", \"required\" (with tools) or the name of a tool";
    violations.check(known, FIELD, what);
    let free = request.constraint.is_none();
    violations.check(
        free,
        FIELD,
        "leaves no room for a constraint: give one of them",
    );
}

fn check_messages(messages: &[ChatMessage], violations: &mut Violations) {
    let calls: usize = messages
        .iter()
        .map(|message| message.tool_calls.len())
        .sum();
    if calls > MAX_CALLS {
        return violations.add("messages", "must have at most 256 tool_calls");
    }
    for (m, message) in messages.iter().enumerate() {
        let at = |what: &str| format!("messages[{m}].{what}");
        let right = message.tool_calls.is_empty() || message.role == "assistant";
        let what = "only messages of role \"assistant\" may have some";
        violations.check(right, &at("tool_calls"), what);
        for (c, call) in message.tool_calls.iter().enumerate() {
            let at = |what: &str| at(&format!("tool_calls[{c}].{what}"));
            let what = "must have at most 128 characters";
            violations.check(is_id(&call.id), &at("id"), what);
            violations.check(!call.name.is_empty(), &at("name"), "is required");
            let what = "must be a JSON object";
            violations.check(is_object(&call.arguments), &at("arguments"), what);
        }
        let id = &message.tool_call_id;
        let right = id.is_empty() || message.role == "tool";
        let what = "only messages of role \"tool\" may have one";
        violations.check(right, &at("tool_call_id"), what);
        let what = "must have at most 128 characters";
        violations.check(is_id(id), &at("tool_call_id"), what);
    }
}

/// Bytes of all calls in messages, and of the ids of their results.
pub(super) fn call_bytes(messages: &[ChatMessage]) -> usize {
    let calls = messages.iter().flat_map(|message| &message.tool_calls);
    let calls = calls.map(|call| call.id.len() + call.name.len() + call.arguments.len());
    let ids = messages.iter().map(|message| message.tool_call_id.len());
    calls.chain(ids).sum()
}

fn is_name(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(letters) && !CHOICES.contains(&name)
}

fn is_schema(tool: &Tool) -> bool {
    let mut values = tool
        .parameters
        .iter()
        .flat_map(|schema| schema.fields.values());
    values.all(|value| is_plain(value, MAX_DEPTH))
}

/// Whether the arguments that a function's schema allows are objects.
fn is_of_object(tool: &Tool) -> bool {
    let written = serde_json::from_str::<serde_json::Value>(&tool.parameters_json);
    if let Some(kind) = written.ok().and_then(|schema| schema.get("type").cloned()) {
        return kind == "object";
    }
    let schema = tool.parameters.as_ref();
    let kind = schema.and_then(|schema| schema.fields.get("type"));
    kind.is_none_or(|kind| kind.kind == Some(Kind::StringValue("object".to_owned())))
}

fn is_id(id: &str) -> bool {
    id.chars().count() <= MAX_ID
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::{Constraint, ToolCall, constraint};
    use prost_types::{ListValue, Struct, Value};

    use super::*;
    use crate::rpc::error::ApiError;

    fn tool(name: &str) -> Tool {
        Tool {
            name: name.to_owned(),
            ..Tool::default()
        }
    }

    fn message(role: &str) -> ChatMessage {
        ChatMessage {
            role: role.to_owned(),
            ..ChatMessage::default()
        }
    }

    /// Fields that are wrong in a request with the tool `f` and a message.
    fn wrong(change: impl FnOnce(&mut GenerateRequest)) -> Vec<String> {
        let mut request = GenerateRequest {
            messages: vec![message("user")],
            tools: vec![tool("f")],
            ..GenerateRequest::default()
        };
        change(&mut request);
        let mut violations = Violations::default();
        check(&request, &mut violations);
        match violations.finish().map_err(ApiError::from) {
            Ok(()) => Vec::new(),
            Err(ApiError::Invalid(violations)) => {
                violations.into_iter().map(|(field, _)| field).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[bounded::test]
    fn tools_have_names_of_their_own_and_plain_schemas() {
        assert!(wrong(|_| ()).is_empty());
        for name in ["", "a b", "é", "auto", "required", &"x".repeat(65)] {
            let fields = wrong(|r| r.tools = vec![tool(name)]);
            assert_eq!(fields, ["tools[0].name"], "{name:?}");
        }
        assert!(wrong(|r| r.tools = vec![tool(&"x".repeat(64))]).is_empty());
        let twice = wrong(|r| r.tools.push(tool("f")));
        assert_eq!(twice, ["tools[1].name"]);
        let value = |kind| Value { kind: Some(kind) };
        let schema = |value| Struct {
            fields: [("a".to_owned(), value)].into(),
        };
        let nan = value(Kind::NumberValue(f64::NAN));
        let fields = wrong(|r| r.tools[0].parameters = Some(schema(nan)));
        assert_eq!(fields, ["tools[0].parameters"]);
        for kind in [
            Kind::StringValue("string".to_owned()),
            Kind::BoolValue(true),
        ] {
            let schema = Struct {
                fields: [("type".to_owned(), value(kind))].into(),
            };
            let fields = wrong(|r| r.tools[0].parameters = Some(schema));
            assert_eq!(fields, ["tools[0].parameters.type"]);
        }
        let nested = |depth: usize| {
            (1..depth).fold(value(Kind::BoolValue(true)), |inner, _| {
                value(Kind::ListValue(ListValue {
                    values: vec![inner],
                }))
            })
        };
        assert!(wrong(|r| r.tools[0].parameters = Some(schema(nested(MAX_DEPTH)))).is_empty());
        let fields = wrong(|r| r.tools[0].parameters = Some(schema(nested(MAX_DEPTH + 1))));
        assert_eq!(fields, ["tools[0].parameters"]);
    }

    #[bounded::test]
    fn tools_are_few_small_and_for_messages() {
        let many = |count: usize| (0..count).map(|n| tool(&format!("f{n}"))).collect();
        assert!(wrong(|r| r.tools = many(MAX_TOOLS)).is_empty());
        assert_eq!(wrong(|r| r.tools = many(MAX_TOOLS + 1)), ["tools"]);
        let fields = wrong(|r| r.tools[0].description = "x".repeat(MAX_BYTES));
        assert_eq!(fields, ["tools"]);
        assert_eq!(wrong(|r| r.messages.clear()), ["tools"]);
    }

    #[bounded::test]
    fn a_choice_is_one_that_can_be_honoured() {
        for choice in ["", "auto", "none", "required", "f"] {
            assert!(wrong(|r| r.tool_choice = choice.to_owned()).is_empty());
        }
        let fields = wrong(|r| r.tool_choice = "g".to_owned());
        assert_eq!(fields, ["tool_choice"]);
        let fields = wrong(|r| {
            r.tools.clear();
            r.tool_choice = "required".to_owned();
        });
        assert_eq!(fields, ["tool_choice"]);
        let constraint = || {
            Some(Constraint {
                constraint: Some(constraint::Constraint::Regex("x".to_owned())),
            })
        };
        for (choice, expected) in [("auto", vec![]), ("required", vec!["tool_choice"])] {
            let fields = wrong(|r| {
                r.constraint = constraint();
                r.tool_choice = choice.to_owned();
            });
            assert_eq!(fields, expected);
        }
    }

    #[bounded::test]
    fn of_too_many_calls_none_is_looked_at() {
        let calls = vec![ToolCall::default(); MAX_CALLS + 1];
        let fields = wrong(|r| {
            r.messages.push(message("assistant"));
            r.messages[1].tool_calls = calls;
        });
        assert_eq!(fields, ["messages"]);
    }

    #[bounded::test]
    fn calls_are_the_assistants_and_results_the_tools() {
        let call = |arguments: &str| ToolCall {
            id: "1".to_owned(),
            name: "f".to_owned(),
            arguments: arguments.to_owned(),
        };
        let asks = |role: &str, arguments: &str| {
            wrong(|r| {
                r.messages.push(message(role));
                r.messages[1].tool_calls = vec![call(arguments)];
            })
        };
        assert!(asks("assistant", "{\"a\": 1}").is_empty());
        assert_eq!(asks("user", "{}"), ["messages[1].tool_calls"]);
        for arguments in ["", "[]", "{", "1"] {
            let field = "messages[1].tool_calls[0].arguments";
            assert_eq!(asks("assistant", arguments), [field]);
        }
        let violations_of = |role: &str, id: &str| {
            wrong(|r| {
                r.messages.push(message(role));
                r.messages[1].tool_call_id = id.to_owned();
            })
        };
        assert!(violations_of("tool", "1").is_empty());
        assert_eq!(violations_of("user", "1"), ["messages[1].tool_call_id"]);
        assert_eq!(
            violations_of("tool", &"x".repeat(129)),
            ["messages[1].tool_call_id"]
        );
    }
}
