//! What a request asks of a text model.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use hangar_client::{
    inference::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice},
    v1::GenerateRequest,
};
use serde_json::Map;

use super::{
    conventions,
    conventions::{
        CUMULATIVE, EXCLUDE_INPUT, LOGPROBS, ON_REQUEST, SAMPLING_PARAMETERS, STREAM, TEXT_INPUT,
        TEXT_OUTPUT, Tensor,
    },
    sampling,
    shown::shown,
    tensors::{self, Element},
};
use crate::{
    rpc::{
        error::ApiError,
        validate::{MAX_REQUEST_ID, Violations, refuse},
    },
    wire,
};

/// What a request asks for.
#[derive(Debug)]
pub(super) struct TextRequest {
    /// The same, as Generate takes it.
    pub(super) generate: GenerateRequest,
    /// A response for each piece.
    pub(super) stream: bool,
    /// One more response at the end, without outputs.
    pub(super) empty_final: bool,
    /// How responses look.
    pub(super) form: TextForm,
}

/// How the responses of a request look.
#[derive(Clone, Debug, Default)]
pub(super) struct TextForm {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) id: String,
    /// Raw tensors in place of typed ones.
    pub(super) raw: bool,
    /// Outputs to give, in the order of the task.
    pub(super) outputs: Vec<Tensor>,
    /// What the text begins with.
    pub(super) echo: String,
}

/// The inputs of a request.
struct Inputs(BTreeMap<&'static str, Element>);

/// Parameters and outputs that a request may name: more than there are, and not so many that an error about
/// each is large.
pub(super) const MAX_NAMED: usize = 16;

/// Time for the request in microseconds, queue included.
const TIMEOUT: &str = "timeout";
/// Level of the request: 1 goes before 2 and so on, and each before requests without a level, or with 0.
const PRIORITY: &str = "priority";
const EMPTY_FINAL: &str = "triton_enable_empty_final_response";

/// Longest time, as for every request, and shortest.
const MAX_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

impl TextRequest {
    /// Reads `request`, whose model has this `version`.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub(super) fn parse(request: ModelInferRequest, version: u64) -> Result<Self, ApiError> {
        refuse_extensions(&request)?;
        let mut violations = Violations::default();
        let mut generate = GenerateRequest {
            model_id: request.model_name.clone(),
            ..GenerateRequest::default()
        };
        let inputs = Inputs(tensors::read(
            &request,
            &conventions::inputs(),
            &mut violations,
        ));
        let empty_final = settings(&request, &inputs, &mut generate, &mut violations);
        let stream = inputs.flag(STREAM).unwrap_or_default();
        let exclude = inputs.flag(EXCLUDE_INPUT);
        violations.check(
            !(stream && exclude == Some(false)),
            "inputs",
            "exclude_input_in_output must not be false together with stream",
        );
        let outputs = outputs(&request, &inputs, &mut violations);
        violations.finish()?;
        let echo = !exclude.unwrap_or(stream);
        generate.logprobs |= outputs.iter().any(|o| [LOGPROBS, CUMULATIVE].contains(o));
        if request.id.len() <= MAX_REQUEST_ID {
            generate.request_id.clone_from(&request.id);
        }
        Ok(Self {
            form: TextForm {
                version: version.to_string(),
                raw: !request.raw_input_contents.is_empty(),
                outputs,
                echo: if echo {
                    generate.prompt.clone()
                } else {
                    String::new()
                },
                model: request.model_name,
                id: request.id,
            },
            generate,
            stream,
            empty_final,
        })
    }
}

impl Inputs {
    fn bytes(&self, tensor: Tensor) -> Option<Bytes> {
        match self.0.get(tensor.name) {
            Some(Element::Bytes(bytes)) => Some(bytes.clone()),
            _ => None,
        }
    }

    fn flag(&self, tensor: Tensor) -> Option<bool> {
        match self.0.get(tensor.name) {
            Some(Element::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }
}

/// Refuses what other servers of this protocol can do.
pub(super) fn refuse_extensions(request: &ModelInferRequest) -> Result<(), ApiError> {
    let given = |name: &str| request.parameters.contains_key(name);
    let shared = |parameters: &BTreeMap<String, InferParameter>| {
        parameters
            .keys()
            .any(|name| name.starts_with("shared_memory_"))
    };
    let (inputs, outputs) = (&request.inputs, &request.outputs);
    refuse(&[
        ("parameters.sequence_id", given("sequence_id")),
        (
            "inputs.parameters.shared_memory_region",
            inputs.iter().any(|input| shared(&input.parameters)),
        ),
        (
            "outputs.parameters.shared_memory_region",
            outputs.iter().any(|output| shared(&output.parameters)),
        ),
        (
            "outputs.parameters.classification",
            outputs
                .iter()
                .any(|output| output.parameters.contains_key("classification")),
        ),
    ])
}

/// Reads the text and how it is to be answered, and says whether an empty final response is wanted.
fn settings(
    request: &ModelInferRequest,
    inputs: &Inputs,
    generate: &mut GenerateRequest,
    violations: &mut Violations,
) -> bool {
    let sampled = inputs.bytes(SAMPLING_PARAMETERS);
    let given = &request.parameters;
    let empty_final = parameters(given, Some(sampled.is_some()), generate, violations);
    if let Some(text) = sampled {
        let object = sampling::object(&text, violations);
        sampling::apply(&object, SAMPLING_PARAMETERS.name, generate, violations);
    }
    if let Some(text) = inputs.bytes(TEXT_INPUT) {
        generate.prompt = prompt(&text, violations);
    }
    empty_final
}

/// Reads the parameters of a request, and says whether it wants an empty final response. `sampled` says whether
/// those for sampling are elsewhere; `None`: there are none.
pub(super) fn parameters(
    parameters: &BTreeMap<String, InferParameter>,
    sampled: Option<bool>,
    generate: &mut GenerateRequest,
    violations: &mut Violations,
) -> bool {
    if parameters.len() > MAX_NAMED {
        violations.add("parameters", "must have at most 16 entries");
        return false;
    }
    let (mut empty_final, mut object) = (false, Map::new());
    for (name, parameter) in parameters {
        match (name.as_str(), &parameter.parameter_choice) {
            (EMPTY_FINAL, Some(ParameterChoice::BoolParam(wanted))) => empty_final = *wanted,
            (EMPTY_FINAL, _) => violations.add("parameters", format!("{EMPTY_FINAL} is a bool")),
            (TIMEOUT, choice) => {
                let timeout = violations.note("parameters.timeout", timeout(choice.as_ref()));
                generate.timeout = timeout.flatten().and_then(wire::duration);
            }
            (PRIORITY, choice) => {
                let priority = violations.note("parameters.priority", priority(choice.as_ref()));
                generate.priority = priority.unwrap_or_default();
            }
            // Clients send them both ways at once.
            (name, _) if sampling::is_known(name) && sampled == Some(true) => {}
            (name, _) if sampling::is_known(name) && sampled.is_some() => {
                object.insert(name.to_owned(), sampling::value(parameter));
            }
            (name, _) => {
                let what = format!("{} is no parameter of this server", shown(name));
                violations.add("parameters", what);
            }
        }
    }
    sampling::apply(&object, "parameters", generate, violations);
    empty_final
}

/// A level as Generate has it, where the highest number goes first and zero is the default.
fn priority(choice: Option<&ParameterChoice>) -> Result<i32, &'static str> {
    match whole(choice) {
        Some(0) => Ok(0),
        Some(level) => Ok(i32::try_from(level).map_or(1, |level| i32::MAX - level + 1)),
        None => Err("must be a whole number that is not negative"),
    }
}

/// A time in microseconds; zero for none.
fn timeout(choice: Option<&ParameterChoice>) -> Result<Option<Duration>, &'static str> {
    match whole(choice).map(Duration::from_micros) {
        Some(Duration::ZERO) => Ok(None),
        Some(timeout) if timeout <= MAX_TIMEOUT => Ok(Some(timeout.max(MIN_TIMEOUT))),
        _ => Err("must be a whole number of microseconds, at most a week"),
    }
}

fn whole(choice: Option<&ParameterChoice>) -> Option<u64> {
    match choice {
        Some(ParameterChoice::Int64Param(number)) => u64::try_from(*number).ok(),
        Some(ParameterChoice::Uint64Param(number)) => Some(*number),
        _ => None,
    }
}

fn prompt(text: &Bytes, violations: &mut Violations) -> String {
    let what = "text_input must be UTF-8";
    let text = String::from_utf8(text.to_vec()).map_err(|_| what);
    let text = violations.note("inputs", text);
    let empty = text.as_ref().is_some_and(String::is_empty);
    violations.check(!empty, "inputs", "text_input must not be empty");
    text.unwrap_or_default()
}

/// The outputs that `request` wants.
fn outputs(
    request: &ModelInferRequest,
    inputs: &Inputs,
    violations: &mut Violations,
) -> Vec<Tensor> {
    let known = conventions::outputs();
    if request.outputs.len() > MAX_NAMED {
        violations.add("outputs", "must have at most 16 entries");
    }
    for (n, output) in request.outputs.iter().take(MAX_NAMED).enumerate() {
        if !known.iter().any(|tensor| tensor.name == output.name) {
            let what = format!("{} is no output of this model", shown(&output.name));
            violations.add(format!("outputs[{n}].name"), what);
        }
        let none = output.parameters.is_empty();
        violations.check(none, &format!("outputs[{n}].parameters"), "takes none");
    }
    let flagged = |tensor: &Tensor| {
        let flag = ON_REQUEST.iter().find(|(_, output)| output == tensor);
        flag.is_some_and(|(flag, _)| inputs.flag(*flag) == Some(true))
    };
    let named = |tensor: &Tensor| request.outputs.iter().any(|o| o.name == tensor.name);
    let all = request.outputs.is_empty();
    let wanted =
        |tensor: &Tensor| named(tensor) || all && (*tensor == TEXT_OUTPUT || flagged(tensor));
    known.into_iter().filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_ordered_and_precede_none() {
        let levels = [1, 2, 3, i32::MAX as u64, u64::MAX, 0];
        let priorities = levels.map(|level| priority(Some(&ParameterChoice::Uint64Param(level))));
        assert!(priorities.is_sorted_by(|a, b| a.unwrap() >= b.unwrap()));
        assert_eq!((priorities[0], priorities[3]), (Ok(i32::MAX), Ok(1)));
        assert_eq!((priorities[4], priorities[5]), (Ok(1), Ok(0)));
    }
}
