//! What a Generate request may ask for.

use std::time::Duration;

use hangar_client::v1::{
    ChatMessage, Constraint, DetokenizeRequest, GenerateRequest, TokenizeRequest,
    constraint::Constraint as Notation,
};
use prost::Message;
use prost_types::Struct;

use super::{parts, tokens, tools, values::is_plain};
use crate::{
    lifecycle::ModelRequest,
    model::{GenerationSettings, Operation, Sampling},
    rpc::{
        deadline::{Deadline, earliest},
        error::ApiError,
        validate::{self, Violations},
    },
};

/// Longest text of a request in bytes.
pub(in crate::rpc) const MAX_TEXT: usize = 8 << 20;

/// Most messages of a request.
const MAX_MESSAGES: usize = 16_384;

/// Most likely tokens that are given with each token.
const MAX_TOP_LOGPROBS: u32 = 20;

/// Longest constraint in bytes.
const MAX_CONSTRAINT: usize = 128 << 10;

/// Largest template options in bytes, and their deepest nesting.
const MAX_OPTIONS: usize = 64 << 10;
const MAX_OPTIONS_DEPTH: usize = 16;

/// Variables of chat templates that come from other fields.
const RESERVED_OPTIONS: [&str; 5] = [
    "messages",
    "tools",
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
];

/// A checked request.
#[derive(Debug)]
pub(in crate::rpc) struct Generate {
    /// Whom it is for, and until when.
    pub(super) admission: ModelRequest,
    /// How it wants its answer to be made.
    pub(super) settings: GenerationSettings,
    /// The rest of it, for the worker and for traces.
    pub(super) message: GenerateRequest,
}

/// Reads `message`, whose caller gives up at `deadline`.
///
/// # Errors
///
/// All that is wrong with it.
pub(in crate::rpc) fn parse(
    mut message: GenerateRequest,
    deadline: Option<Deadline>,
) -> Result<Generate, ApiError> {
    let (timeout, sampling) = check(&message)?;
    let operation = match message.messages.is_empty() {
        true => Operation::TextCompletion,
        false => Operation::Chat,
    };
    Ok(Generate {
        admission: ModelRequest {
            name: validate::model_id("model_id", &message.model_id)?,
            operation,
            priority: message.priority,
            deadline: earliest(deadline, timeout),
        },
        settings: GenerationSettings {
            sampling,
            stop: std::mem::take(&mut message.stop),
        },
        message,
    })
}

/// Checks a request to split something into tokens: a conversation has the limits that it has for Generate.
///
/// # Errors
///
/// All that is wrong with it.
pub(in crate::rpc) fn check_tokenize(request: &TokenizeRequest) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    if request.messages.is_empty() {
        let options = request.chat_template_options.is_some()
            || !request.chat_template_options_json.is_empty();
        for (given, field) in [
            (!request.tools.is_empty(), "tools"),
            (!request.tool_choice.is_empty(), "tool_choice"),
            (options, "chat_template_options"),
        ] {
            violations.check(!given, field, "needs messages");
        }
        return Ok(violations.finish()?);
    }
    let free = request.text.is_empty() && !request.add_special_tokens;
    violations.check(free, "text", "give either text or messages, not both");
    check_count(&request.messages, &mut violations);
    violations.finish()?;
    check(&GenerateRequest {
        messages: request.messages.clone(),
        tools: request.tools.clone(),
        tool_choice: request.tool_choice.clone(),
        chat_template_options: request.chat_template_options.clone(),
        chat_template_options_json: request.chat_template_options_json.clone(),
        ..GenerateRequest::default()
    })
    .map(drop)
}

/// Checks a request to put tokens together.
///
/// # Errors
///
/// All that is wrong with it.
pub(in crate::rpc) fn check_detokenize(request: &DetokenizeRequest) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    tokens::check_count("token_ids", &request.token_ids, &mut violations);
    Ok(violations.finish()?)
}

/// Checks `request`; gives the time that it is to take, and its sampling.
fn check(request: &GenerateRequest) -> Result<(Option<Duration>, Sampling), ApiError> {
    let mut violations = Violations::default();
    check_count(&request.messages, &mut violations);
    // Not a word on each of millions.
    std::mem::take(&mut violations).finish()?;
    check_text(request, &mut violations);
    parts::check(&request.messages, &mut violations);
    tools::check(request, &mut violations);
    let sampling = violations.sampling("sampling", request.sampling.as_ref());
    violations.stops("stop", &request.stop);
    check_logprobs(request, &mut violations);
    if let Some(constraint) = &request.constraint {
        check_constraint(constraint, &mut violations);
    }
    check_options(request, &mut violations);
    tokens::check(request, &mut violations);
    violations.request_id(&request.request_id);
    let timeout = violations.duration("timeout", request.timeout, Duration::from_millis(1));
    violations.finish()?;
    Ok((timeout, sampling))
}

fn check_count(messages: &[ChatMessage], violations: &mut Violations) {
    let few = messages.len() <= MAX_MESSAGES;
    violations.check(few, "messages", "must have at most 16,384 entries");
}

fn check_text(request: &GenerateRequest, violations: &mut Violations) {
    let given = [
        !request.prompt.is_empty(),
        !request.prompt_token_ids.is_empty(),
        !request.messages.is_empty(),
    ];
    let one = given.into_iter().filter(|given| *given).count() == 1;
    let what = "give exactly one of prompt, prompt_token_ids and messages";
    violations.check(one, "prompt", what);
    let messages = request.messages.iter();
    let messages = messages.map(|it| it.content.len() + it.reasoning.len() + it.name.len());
    let parts = parts::text_bytes(&request.messages) + tools::call_bytes(&request.messages);
    let text = request.prompt.len() + messages.sum::<usize>() + parts;
    violations.check(text <= MAX_TEXT, "prompt", "must have at most 8 MiB");
    for (n, message) in request.messages.iter().enumerate() {
        let known = matches!(
            message.role.as_str(),
            "system" | "developer" | "user" | "assistant" | "tool"
        );
        let what = "must be \"system\", \"developer\", \"user\", \"assistant\" or \"tool\"";
        violations.check(known, &format!("messages[{n}].role"), what);
        let thought = message.reasoning.is_empty() || message.role == "assistant";
        let what = "only messages of role \"assistant\" may have some";
        violations.check(thought, &format!("messages[{n}].reasoning"), what);
        if let Some(fields) = &message.fields {
            check_fields(fields, &format!("messages[{n}].fields"), violations);
        }
    }
}

fn check_logprobs(request: &GenerateRequest, violations: &mut Violations) {
    let top = request.top_logprobs;
    violations.check(
        top <= MAX_TOP_LOGPROBS,
        "top_logprobs",
        "must be at most 20",
    );
    let has_logprobs = top == 0 || request.logprobs || request.prompt_logprobs;
    violations.check(has_logprobs, "top_logprobs", "needs logprobs");
}

fn check_constraint(constraint: &Constraint, violations: &mut Violations) {
    let (field, text) = match &constraint.constraint {
        Some(Notation::JsonSchema(text)) => ("constraint.json_schema", text),
        Some(Notation::Regex(text)) => ("constraint.regex", text),
        Some(Notation::Lark(text)) => ("constraint.lark", text),
        None => return violations.add("constraint", "give json_schema, regex or lark"),
    };
    violations.check(
        text.len() <= MAX_CONSTRAINT,
        field,
        "must have at most 128 KiB",
    );
}

fn check_options(request: &GenerateRequest, violations: &mut Violations) {
    const FIELD: &str = "chat_template_options";
    const AS_JSON: &str = "chat_template_options_json";
    let text = request.chat_template_options_json.as_str();
    let (field, names) = match (&request.chat_template_options, text) {
        (None, "") => return,
        (Some(_), text) if !text.is_empty() => {
            let what = "give either this or chat_template_options, not both";
            return violations.add(AS_JSON, what);
        }
        (Some(options), _) => {
            check_fields(options, FIELD, violations);
            (FIELD, options.fields.keys().cloned().collect())
        }
        (None, text) => (AS_JSON, names(text, violations)),
    };
    violations.check(!request.messages.is_empty(), field, "needs messages");
    for name in RESERVED_OPTIONS {
        let free = !names.iter().any(|given| given == name);
        let field = format!("{field}.{name}");
        violations.check(free, &field, "is a variable that callers do not set");
    }
}

/// Names of the options in a text.
fn names(text: &str, violations: &mut Violations) -> Vec<String> {
    const FIELD: &str = "chat_template_options_json";
    let small = text.len() <= MAX_OPTIONS;
    violations.check(small, FIELD, "must have at most 64 KiB");
    let given: Option<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(text).ok().filter(|_| small);
    violations.check(given.is_some() || !small, FIELD, "must be a JSON object");
    given
        .unwrap_or_default()
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

/// Checks values that a chat template gets.
fn check_fields(fields: &Struct, field: &str, violations: &mut Violations) {
    let size = fields.encoded_len();
    violations.check(size <= MAX_OPTIONS, field, "must have at most 64 KiB");
    let mut values = fields.fields.values();
    let plain = values.all(|value| is_plain(value, MAX_OPTIONS_DEPTH));
    let what = "must be nested at most 16 deep and hold finite numbers";
    violations.check(plain, field, what);
}

#[cfg(test)]
mod tests {
    use prost_types::{ListValue, Value, value::Kind};

    use super::*;

    fn wrong(change: impl FnOnce(&mut GenerateRequest)) -> Vec<String> {
        let mut request = GenerateRequest {
            prompt: "x".to_owned(),
            ..GenerateRequest::default()
        };
        change(&mut request);
        match check(&request) {
            Ok(_) => Vec::new(),
            Err(ApiError::Invalid(violations)) => {
                violations.into_iter().map(|(field, _)| field).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    fn options(name: &str, value: Value) -> Option<Struct> {
        Some(Struct {
            fields: [(name.to_owned(), value)].into(),
        })
    }

    #[bounded::test]
    fn logprobs_and_constraints_have_limits() {
        assert_eq!(wrong(|r| r.top_logprobs = 1), ["top_logprobs"]);
        assert_eq!(wrong(|r| r.top_logprobs = 21), ["top_logprobs"; 2]);
        let most = wrong(|r| (r.logprobs, r.top_logprobs) = (true, 20));
        assert!(most.is_empty());
        assert_eq!(
            wrong(|r| r.constraint = Some(Constraint::default())),
            ["constraint"]
        );
        let regex = |length: usize| {
            let constraint = Some(Notation::Regex("x".repeat(length)));
            wrong(|r| r.constraint = Some(Constraint { constraint }))
        };
        assert!(regex(MAX_CONSTRAINT).is_empty());
        assert_eq!(regex(MAX_CONSTRAINT + 1), ["constraint.regex"]);
    }

    #[bounded::test]
    fn template_options_are_plain_small_and_for_messages() {
        const FIELD: &str = "chat_template_options";
        let wrong_options = |name: &str, value: Value| {
            wrong(|r| {
                r.prompt.clear();
                r.messages = vec![hangar_client::v1::ChatMessage {
                    role: "user".to_owned(),
                    ..Default::default()
                }];
                r.chat_template_options = options(name, value);
            })
        };
        let yes = value(Kind::BoolValue(true));
        assert!(wrong_options("enable_thinking", yes.clone()).is_empty());
        assert_eq!(
            wrong(|r| r.chat_template_options = options("a", yes.clone())),
            [FIELD]
        );
        for name in RESERVED_OPTIONS {
            assert_eq!(
                wrong_options(name, yes.clone()),
                [format!("{FIELD}.{name}")]
            );
        }
        for number in [f64::NAN, f64::INFINITY] {
            assert_eq!(
                wrong_options("n", value(Kind::NumberValue(number))),
                [FIELD]
            );
        }
        let long = value(Kind::StringValue("x".repeat(MAX_OPTIONS)));
        assert_eq!(wrong_options("long", long), [FIELD]);
        let nested = |depth: usize| {
            (1..depth).fold(yes.clone(), |inner, _| {
                value(Kind::ListValue(ListValue {
                    values: vec![inner],
                }))
            })
        };
        assert!(wrong_options("deep", nested(MAX_OPTIONS_DEPTH)).is_empty());
        assert_eq!(
            wrong_options("deep", nested(MAX_OPTIONS_DEPTH + 1)),
            [FIELD]
        );
    }
}
