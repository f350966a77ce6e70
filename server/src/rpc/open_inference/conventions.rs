//! The tensors that go with text models, by the conventions of Triton's vLLM backend.

use hangar_client::inference::{
    DataType, ModelInput, ModelOutput, model_metadata_response::TensorMetadata,
};
use strum::IntoStaticStr;

/// A tensor that a text model takes or gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: &'static str,
    pub(super) datatype: Datatype,
    pub(super) optional: bool,
}

/// Types of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE")]
pub(super) enum Datatype {
    Bytes,
    Bool,
    Uint32,
    Fp32,
}

/// The shape of every tensor: one element.
pub(super) const SHAPE: [i64; 1] = [1];

/// What runs models.
pub(super) const PLATFORM: &str = "mistralrs";

pub(super) const TEXT_INPUT: Tensor = Tensor {
    optional: false,
    ..optional("text_input", Datatype::Bytes)
};
pub(super) const STREAM: Tensor = optional("stream", Datatype::Bool);
pub(super) const SAMPLING_PARAMETERS: Tensor = optional("sampling_parameters", Datatype::Bytes);
pub(super) const EXCLUDE_INPUT: Tensor = optional("exclude_input_in_output", Datatype::Bool);
const RETURN_FINISH_REASON: Tensor = optional("return_finish_reason", Datatype::Bool);
const RETURN_INPUT_TOKENS: Tensor = optional("return_num_input_tokens", Datatype::Bool);
const RETURN_OUTPUT_TOKENS: Tensor = optional("return_num_output_tokens", Datatype::Bool);
const RETURN_LOGPROBS: Tensor = optional("return_logprobs", Datatype::Bool);
const RETURN_CUMULATIVE: Tensor = optional("return_cumulative_logprob", Datatype::Bool);

pub(super) const TEXT_OUTPUT: Tensor = optional("text_output", Datatype::Bytes);
pub(super) const FINISH_REASON: Tensor = optional("finish_reason", Datatype::Bytes);
pub(super) const INPUT_TOKENS: Tensor = optional("num_input_tokens", Datatype::Uint32);
pub(super) const OUTPUT_TOKENS: Tensor = optional("num_output_tokens", Datatype::Uint32);
pub(super) const LOGPROBS: Tensor = optional("logprobs", Datatype::Bytes);
pub(super) const CUMULATIVE: Tensor = optional("cumulative_logprob", Datatype::Fp32);

/// Outputs that are given when asked for, each with the input that asks for it.
pub(super) const ON_REQUEST: [(Tensor, Tensor); 5] = [
    (RETURN_FINISH_REASON, FINISH_REASON),
    (RETURN_INPUT_TOKENS, INPUT_TOKENS),
    (RETURN_OUTPUT_TOKENS, OUTPUT_TOKENS),
    (RETURN_LOGPROBS, LOGPROBS),
    (RETURN_CUMULATIVE, CUMULATIVE),
];

/// What a text model takes.
pub(super) fn inputs() -> Vec<Tensor> {
    let mut inputs = vec![TEXT_INPUT, STREAM, SAMPLING_PARAMETERS, EXCLUDE_INPUT];
    inputs.extend(ON_REQUEST.map(|(input, _)| input));
    inputs
}

/// What a text model gives.
pub(super) fn outputs() -> Vec<Tensor> {
    let mut outputs = vec![TEXT_OUTPUT];
    outputs.extend(ON_REQUEST.map(|(_, output)| output));
    outputs
}

impl Tensor {
    pub(super) fn metadata(&self) -> TensorMetadata {
        TensorMetadata {
            name: self.name.to_owned(),
            datatype: self.datatype.name().to_owned(),
            shape: SHAPE.to_vec(),
        }
    }

    pub(super) fn input(&self) -> ModelInput {
        ModelInput {
            name: self.name.to_owned(),
            data_type: self.datatype.config().into(),
            dims: SHAPE.to_vec(),
            optional: self.optional,
        }
    }

    pub(super) fn output(&self) -> ModelOutput {
        ModelOutput {
            name: self.name.to_owned(),
            data_type: self.datatype.config().into(),
            dims: SHAPE.to_vec(),
        }
    }
}

impl Datatype {
    /// Its name in a tensor.
    pub(super) fn name(self) -> &'static str {
        self.into()
    }

    pub(super) fn config(self) -> DataType {
        match self {
            Self::Bytes => DataType::TypeString,
            Self::Bool => DataType::TypeBool,
            Self::Uint32 => DataType::TypeUint32,
            Self::Fp32 => DataType::TypeFp32,
        }
    }
}

const fn optional(name: &'static str, datatype: Datatype) -> Tensor {
    Tensor {
        name,
        datatype,
        optional: true,
    }
}
