//! Sampling parameters, by the names that vLLM gave them.

use hangar_client::inference::{InferParameter, infer_parameter::ParameterChoice};
use serde_json::{Map, Number, Value};

use super::truncated::truncated;
use crate::rpc::{generate::Completion, validate::Violations};

/// Names that are known.
const NAMES: [&str; 11] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logprobs",
];

/// Names that are not known, that an error names.
const MAX_NAMED: usize = 16;

/// Whether there is a sampling parameter of this name.
pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The parameters in a JSON object.
pub(super) fn object(text: &[u8], violations: &mut Violations) -> Map<String, Value> {
    let parsed = serde_json::from_slice(text).map_err(|error| format!("must be JSON: {error}"));
    match violations.check_result("sampling_parameters", parsed) {
        Some(Value::Object(object)) => object,
        Some(_) => {
            violations.add("sampling_parameters", "must be a JSON object");
            Map::new()
        }
        None => Map::new(),
    }
}

/// A parameter of a request as a value.
pub(super) fn value(parameter: &InferParameter) -> Value {
    match &parameter.parameter_choice {
        None => Value::Null,
        Some(ParameterChoice::BoolParam(value)) => Value::Bool(*value),
        Some(ParameterChoice::Int64Param(value)) => (*value).into(),
        Some(ParameterChoice::Uint64Param(value)) => (*value).into(),
        Some(ParameterChoice::StringParam(value)) => value.as_str().into(),
        // JSON has no NaN and no infinity; as a text they are read, and refused, all the same.
        Some(ParameterChoice::DoubleParam(value)) => {
            Number::from_f64(*value).map_or_else(|| value.to_string().into(), Value::Number)
        }
    }
}

/// Puts `parameters` into `completion`; `prefix` is what their fields begin with.
pub(super) fn apply(
    parameters: &Map<String, Value>,
    prefix: &str,
    completion: &mut Completion,
    violations: &mut Violations,
) {
    let mut unknown = 0;
    for (name, value) in parameters {
        let field = format!("{prefix}.{name}");
        if value.is_null() && is_known(name) {
            continue;
        }
        let known = set(name, value, &field, completion, violations);
        if !known && unknown < MAX_NAMED {
            unknown += 1;
            let what = format!("{} is no parameter of this server", truncated(name));
            violations.add(prefix, what);
        }
    }
    violations.check_sampling(prefix, &completion.sampling);
    violations.stops(&format!("{prefix}.stop"), &completion.stop);
}

/// Sets one parameter, unless it is unknown, which the answer says.
fn set(
    name: &str,
    value: &Value,
    field: &str,
    completion: &mut Completion,
    violations: &mut Violations,
) -> bool {
    let sampling = &mut completion.sampling;
    match name {
        "temperature" => sampling.temperature = violations.check_result(field, float(value)),
        "top_p" => sampling.top_p = violations.check_result(field, float(value)),
        "min_p" => sampling.min_p = violations.check_result(field, float(value)),
        "presence_penalty" => {
            sampling.presence_penalty = violations.check_result(field, float(value))
        }
        "frequency_penalty" => {
            sampling.frequency_penalty = violations.check_result(field, float(value))
        }
        "repetition_penalty" => {
            sampling.repetition_penalty = violations.check_result(field, float(value))
        }
        "top_k" => sampling.top_k = violations.check_result(field, top_k(value)),
        "seed" => completion.seed = violations.check_result(field, whole(value)),
        "max_tokens" => {
            let tokens = whole(value).and_then(|tokens| match u32::try_from(tokens) {
                Ok(tokens @ 1..) => Ok(tokens),
                _ => Err("must be from 1 to 4294967295"),
            });
            completion.max_tokens = violations.check_result(field, tokens);
        }
        "logprobs" => {
            let most = whole(value).and_then(|most| match u32::try_from(most) {
                Ok(most @ 0..=20) => Ok(most),
                _ => Err("must be at most 20"),
            });
            completion.logprobs = violations.check_result(field, most);
        }
        "stop" => {
            completion.stop = violations
                .check_result(field, stops(value))
                .unwrap_or_default()
        }
        _ => return false,
    }
    true
}

/// A number. Clients of Triton's vLLM backend may give it as a text.
fn float(value: &Value) -> Result<f32, &'static str> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.map(|number| number as f32).ok_or("must be a number")
}

fn whole(value: &Value) -> Result<u64, &'static str> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.ok_or("must be a whole number that is not negative")
}

/// With vLLM, all tokens are -1 or 0.
fn top_k(value: &Value) -> Result<u32, &'static str> {
    let all = match value {
        Value::Number(number) => number.as_i64() == Some(-1),
        Value::String(text) => text.trim() == "-1",
        _ => false,
    };
    if all {
        return Ok(0);
    }
    let number = whole(value).and_then(|number| u32::try_from(number).map_err(|_| ""));
    number.map_err(|_| "must be a whole number from -1 to 4294967295")
}

/// One text, or a list of them.
fn stops(value: &Value) -> Result<Vec<String>, &'static str> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(texts) => texts
            .iter()
            .map(|text| text.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
    .ok_or("must be a text or a list of texts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Sampling, rpc::error::ApiError};

    fn applied(json: &str) -> Result<Completion, Vec<String>> {
        let (mut request, mut violations) = (Completion::default(), Violations::default());
        let object = object(json.as_bytes(), &mut violations);
        apply(
            &object,
            "sampling_parameters",
            &mut request,
            &mut violations,
        );
        match violations.finish().map_err(ApiError::from) {
            Ok(()) => Ok(request),
            Err(ApiError::Invalid(all)) => Err(all.into_iter().map(|(field, _)| field).collect()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[bounded::test]
    fn every_parameter_arrives_and_numbers_may_be_texts() {
        let json = r#"{"temperature": "0.1", "top_p": 0.95, "top_k": -1, "min_p": 0, "max_tokens": "100",
            "stop": ["a", "b"], "seed": 7, "presence_penalty": 0.5, "frequency_penalty": -0.5,
            "repetition_penalty": 1.5, "logprobs": 2}"#;
        let expected = Completion {
            sampling: Sampling {
                temperature: Some(0.1),
                top_p: Some(0.95),
                top_k: Some(0),
                min_p: Some(0.0),
                presence_penalty: Some(0.5),
                frequency_penalty: Some(-0.5),
                repetition_penalty: Some(1.5),
            },
            max_tokens: Some(100),
            stop: vec!["a".to_owned(), "b".to_owned()],
            seed: Some(7),
            logprobs: Some(2),
            ..Completion::default()
        };
        assert_eq!(applied(json), Ok(expected));
        assert_eq!(applied(r#"{"stop": "x"}"#).unwrap().stop, ["x"]);
        assert_eq!(applied(r#"{"seed": null}"#), Ok(Completion::default()));
    }

    #[bounded::test]
    fn what_is_wrong_is_named() {
        for (json, field) in [
            ("", ""),
            ("{", ""),
            ("[]", ""),
            ("1", ""),
            (r#"{"best_of": 2}"#, ""),
            (r#"{"temperature": "warm"}"#, ".temperature"),
            (r#"{"temperature": "nan"}"#, ".temperature"),
            (r#"{"temperature": 1e400}"#, ""),
            (r#"{"temperature": true}"#, ".temperature"),
            (r#"{"top_k": -2}"#, ".top_k"),
            (r#"{"top_k": 4294967296}"#, ".top_k"),
            (r#"{"max_tokens": 0}"#, ".max_tokens"),
            (r#"{"max_tokens": -1}"#, ".max_tokens"),
            (r#"{"max_tokens": 1.5}"#, ".max_tokens"),
            (r#"{"seed": -1}"#, ".seed"),
            (r#"{"logprobs": 21}"#, ".logprobs"),
            (r#"{"stop": [1]}"#, ".stop"),
            (r#"{"stop": ""}"#, ".stop[0]"),
        ] {
            let fields = applied(json).unwrap_err();
            assert_eq!(fields, [format!("sampling_parameters{field}")], "{json}");
        }
    }

    #[bounded::test]
    fn an_error_about_many_names_is_short() {
        let names: Map<_, _> = (0..1000)
            .map(|n| (format!("{n}{}", "x".repeat(1000)), Value::Null))
            .collect();
        let fields = applied(&Value::Object(names).to_string()).unwrap_err();
        assert_eq!(fields.len(), MAX_NAMED);
    }
}
