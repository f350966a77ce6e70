//! What a request asks of a text model.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use hangar_client::inference::{
    InferParameter, ModelInferRequest, infer_parameter::ParameterChoice,
};
use serde_json::{Map, Value};

use super::{
    conventions,
    conventions::{
        CUMULATIVE, EXCLUDE_INPUT, LOGPROBS, ON_REQUEST, SAMPLING_PARAMETERS, STREAM, TEXT_INPUT,
        TEXT_OUTPUT, Tensor,
    },
    named_model::NamedModel,
    sampling,
    tensors::{self, Element},
    truncated::truncated,
};
use crate::{
    lifecycle::ModelRequest,
    model::Operation,
    rpc::{
        deadline::{Deadline, earliest},
        error::ApiError,
        generate::{Completion, Generate, MAX_TEXT},
        validate::{MAX_REQUEST_ID, Violations, refuse},
    },
};

/// What a request asks for.
#[derive(Debug)]
pub(super) struct TextRequest {
    pub(super) generate: Generate,
    pub(super) form: TextForm,
}

/// How the responses of a request look.
#[derive(Clone, Debug, Default)]
pub(super) struct TextForm {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) id: String,
    /// A response for each piece.
    pub(super) stream: bool,
    /// One more response at the end, without outputs.
    pub(super) empty_final: bool,
    /// Raw tensors in place of typed ones.
    pub(super) raw: bool,
    /// Outputs to give, in the order of the task.
    pub(super) outputs: Vec<Tensor>,
    /// What the text begins with.
    pub(super) echo: String,
}

/// What the parameters of a request ask for.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// Time for the request; `None`: as long as its caller waits.
    pub(super) timeout: Option<Duration>,
    pub(super) priority: i32,
    /// One more response at the end, without outputs.
    pub(super) empty_final: bool,
    /// Those for sampling.
    sampling: Map<String, Value>,
}

/// Where a request may have parameters for sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SamplingSource {
    /// Among its other parameters.
    Parameters,
    /// In an input. Clients send them both ways at once: the others are passed over.
    Input,
    /// Nowhere: they are as unknown as any other.
    Nowhere,
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
    /// Reads `request` for the model `named`, whose caller gives up at `deadline`.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub(super) fn parse(
        request: ModelInferRequest,
        named: NamedModel,
        deadline: Option<Deadline>,
    ) -> Result<Self, ApiError> {
        refuse_extensions(&request)?;
        let mut violations = Violations::default();
        let inputs = Inputs(tensors::read(
            &request,
            &conventions::inputs(),
            &mut violations,
        ));
        let (mut completion, parameters) = settings(&request, &inputs, &mut violations);
        let stream = inputs.flag(STREAM).unwrap_or_default();
        let exclude = inputs.flag(EXCLUDE_INPUT);
        violations.check(
            !(stream && exclude == Some(false)),
            "inputs",
            "exclude_input_in_output must not be false together with stream",
        );
        let outputs = outputs(&request, &inputs, &mut violations);
        violations.finish()?;
        if outputs.iter().any(|o| [LOGPROBS, CUMULATIVE].contains(o)) {
            completion.logprobs.get_or_insert_default();
        }
        if request.id.len() <= MAX_REQUEST_ID {
            completion.request_id.clone_from(&request.id);
        }
        let echo = !exclude.unwrap_or(stream);
        let form = TextForm {
            version: named.version.to_string(),
            stream,
            empty_final: parameters.empty_final,
            raw: !request.raw_input_contents.is_empty(),
            outputs,
            echo: if echo {
                completion.prompt.clone()
            } else {
                String::new()
            },
            model: request.model_name,
            id: request.id,
        };
        let admission = ModelRequest {
            name: named.requested_name,
            operation: Operation::TextCompletion,
            priority: parameters.priority,
            deadline: earliest(deadline, parameters.timeout),
        };
        Ok(Self {
            generate: completion.request(admission),
            form,
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

/// Reads the text and how it is to be answered.
fn settings(
    request: &ModelInferRequest,
    inputs: &Inputs,
    violations: &mut Violations,
) -> (Completion, Parameters) {
    let mut completion = Completion::default();
    let sampled = inputs.bytes(SAMPLING_PARAMETERS);
    let source = match sampled {
        Some(_) => SamplingSource::Input,
        None => SamplingSource::Parameters,
    };
    let parameters = parameters(&request.parameters, source, violations);
    sampling::apply(
        &parameters.sampling,
        "parameters",
        &mut completion,
        violations,
    );
    if let Some(text) = sampled {
        let object = sampling::object(&text, violations);
        let field = SAMPLING_PARAMETERS.name;
        sampling::apply(&object, field, &mut completion, violations);
    }
    if let Some(text) = inputs.bytes(TEXT_INPUT) {
        completion.prompt = prompt(&text, violations);
    }
    (completion, parameters)
}

/// Reads the parameters of a request, which has those for sampling in `sampling`.
pub(super) fn parameters(
    parameters: &BTreeMap<String, InferParameter>,
    sampling: SamplingSource,
    violations: &mut Violations,
) -> Parameters {
    let mut read = Parameters::default();
    if parameters.len() > MAX_NAMED {
        violations.add("parameters", "must have at most 16 entries");
        return read;
    }
    for (name, parameter) in parameters {
        let is_sampling = sampling::is_known(name) && sampling != SamplingSource::Nowhere;
        match (name.as_str(), &parameter.parameter_choice) {
            (EMPTY_FINAL, Some(ParameterChoice::BoolParam(wanted))) => read.empty_final = *wanted,
            (EMPTY_FINAL, _) => violations.add("parameters", format!("{EMPTY_FINAL} is a bool")),
            (TIMEOUT, choice) => {
                let timeout =
                    violations.check_result("parameters.timeout", timeout(choice.as_ref()));
                read.timeout = timeout.flatten();
            }
            (PRIORITY, choice) => {
                let priority =
                    violations.check_result("parameters.priority", priority(choice.as_ref()));
                read.priority = priority.unwrap_or_default();
            }
            (name, _) if is_sampling => {
                if sampling == SamplingSource::Parameters {
                    let value = sampling::value(parameter);
                    read.sampling.insert(name.to_owned(), value);
                }
            }
            (name, _) => {
                let what = format!("{} is no parameter of this server", truncated(name));
                violations.add("parameters", what);
            }
        }
    }
    read
}

/// A level as admission has it, where the highest number goes first and zero is the default.
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
    let text = violations.check_result("inputs", text);
    let empty = text.as_ref().is_some_and(String::is_empty);
    violations.check(!empty, "inputs", "text_input must not be empty");
    let text = text.unwrap_or_default();
    let fits = text.len() <= MAX_TEXT;
    violations.check(fits, "inputs", "text_input must have at most 8 MiB");
    text
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
            let what = format!("{} is no output of this model", truncated(&output.name));
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

    #[bounded::test]
    fn priorities_are_ordered_and_precede_none() {
        let levels = [1, 2, 3, i32::MAX as u64, u64::MAX, 0];
        let priorities = levels.map(|level| priority(Some(&ParameterChoice::Uint64Param(level))));
        assert!(priorities.is_sorted_by(|a, b| a.unwrap() >= b.unwrap()));
        assert_eq!((priorities[0], priorities[3]), (Ok(i32::MAX), Ok(1)));
        assert_eq!((priorities[4], priorities[5]), (Ok(1), Ok(0)));
    }
}
