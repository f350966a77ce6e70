//! What a Generate request may ask for.

use std::time::Duration;

use hangar_client::v1::{Constraint, GenerateRequest, constraint::Constraint as Notation};
use prost::Message;
use prost_types::Struct;

use super::{parts, tools, values::is_plain};
use crate::{
    lifecycle::{ModelRequest, Operation},
    model::Sampling,
    rpc::{
        deadline::{Deadline, earliest},
        error::ApiError,
        validate::{self, Violations},
    },
};

/// Longest text of a request in bytes.
const MAX_TEXT: usize = 8 << 20;

/// Most likely tokens that are told with each token.
const MAX_TOP_LOGPROBS: u32 = 20;

/// Longest constraint in bytes.
const MAX_CONSTRAINT: usize = 128 << 10;

/// Largest template options in bytes, and their deepest nesting.
const MAX_OPTIONS: usize = 64 << 10;
const MAX_OPTIONS_DEPTH: usize = 16;

/// Variables of chat templates that come from other fields.
const RESERVED_OPTIONS: [&str; 3] = ["messages", "tools", "add_generation_prompt"];

/// A checked request.
#[derive(Debug)]
pub(in crate::rpc) struct Generate {
    /// Whom it is for, and until when.
    pub(super) admission: ModelRequest,
    /// How it wants tokens to be chosen.
    pub(super) sampling: Sampling,
    /// The rest of it, for the worker.
    pub(super) message: GenerateRequest,
}

/// Reads `message`, whose caller gives up at `deadline`.
///
/// # Errors
///
/// All that is wrong with it.
pub(in crate::rpc) fn parse(
    message: GenerateRequest,
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
        sampling,
        message,
    })
}

/// Checks `request`; gives the time that it is to take, and its sampling.
fn check(request: &GenerateRequest) -> Result<(Option<Duration>, Sampling), ApiError> {
    let mut violations = Violations::default();
    check_text(request, &mut violations);
    parts::check(&request.messages, &mut violations);
    tools::check(request, &mut violations);
    let sampling = violations.sampling("sampling", request.sampling.as_ref());
    violations.stops("stop", &request.stop);
    check_logprobs(request, &mut violations);
    if let Some(constraint) = &request.constraint {
        check_constraint(constraint, &mut violations);
    }
    if let Some(options) = &request.chat_template_options {
        let field = "chat_template_options";
        violations.check(!request.messages.is_empty(), field, "needs messages");
        check_options(options, &mut violations);
    }
    violations.request_id(&request.request_id);
    let timeout = violations.duration("timeout", request.timeout, Duration::from_millis(1));
    violations.finish()?;
    Ok((timeout, sampling))
}

fn check_text(request: &GenerateRequest, violations: &mut Violations) {
    let one = request.prompt.is_empty() != request.messages.is_empty();
    violations.check(one, "prompt", "give exactly one of prompt and messages");
    let messages = request.messages.iter().map(|message| message.content.len());
    let parts = parts::text_bytes(&request.messages) + tools::call_bytes(&request.messages);
    let text = request.prompt.len() + messages.sum::<usize>() + parts;
    violations.check(text <= MAX_TEXT, "prompt", "must have at most 8 MiB");
    for (n, message) in request.messages.iter().enumerate() {
        let known = matches!(
            message.role.as_str(),
            "system" | "user" | "assistant" | "tool"
        );
        let what = "must be \"system\", \"user\", \"assistant\" or \"tool\"";
        violations.check(known, &format!("messages[{n}].role"), what);
    }
}

fn check_logprobs(request: &GenerateRequest, violations: &mut Violations) {
    let top = request.top_logprobs;
    violations.check(
        top <= MAX_TOP_LOGPROBS,
        "top_logprobs",
        "must be at most 20",
    );
    let has_logprobs = top == 0 || request.logprobs;
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

fn check_options(options: &Struct, violations: &mut Violations) {
    const FIELD: &str = "chat_template_options";
    let size = options.encoded_len();
    violations.check(size <= MAX_OPTIONS, FIELD, "must have at most 64 KiB");
    let mut values = options.fields.values();
    let plain = values.all(|value| is_plain(value, MAX_OPTIONS_DEPTH));
    violations.check(
        plain,
        FIELD,
        "must be nested at most 16 deep and hold finite numbers",
    );
    for name in RESERVED_OPTIONS {
        let free = !options.fields.contains_key(name);
        let field = format!("{FIELD}.{name}");
        violations.check(free, &field, "is a variable that other fields set");
    }
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

    #[test]
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

    #[test]
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
