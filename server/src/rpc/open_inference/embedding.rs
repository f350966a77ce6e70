//! Embedding models in this protocol: texts in one tensor, their vectors in another.
//!
//! The conventions are those of the field's embedding backends: `text_input`, BYTES of shape [n] or [n, 1], in;
//! `embedding`, FP32 of shape [n, size], out.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hangar_client::{
    inference::{
        InferTensorContents, ModelConfig, ModelInferRequest, ModelInferResponse, ModelInput,
        ModelMetadataResponse, ModelOutput, ModelTransactionPolicy,
        model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor,
        model_metadata_response::TensorMetadata,
    },
    v1::EmbedResponse,
};

use super::{
    conventions::{Datatype, PLATFORM, TEXT_INPUT},
    named_model::NamedModel,
    text_request::{MAX_NAMED, SamplingSource, parameters, refuse_extensions},
    truncated::truncated,
};
use crate::{
    lifecycle::ModelRequest,
    model::Operation,
    rpc::{
        deadline::{Deadline, earliest},
        embed::{Embed, check_inputs},
        error::ApiError,
        validate::{MAX_REQUEST_ID, Violations},
    },
};

/// What a request asks of an embedding model.
#[derive(Debug)]
pub(super) struct EmbeddingRequest {
    pub(super) embed: Embed,
    pub(super) form: VectorsForm,
}

/// How the response of a request looks.
#[derive(Clone, Debug)]
pub(super) struct VectorsForm {
    model: String,
    version: String,
    id: String,
    /// One more response at the end of a stream, without outputs.
    pub(super) empty_final: bool,
    /// Raw tensors in place of typed ones.
    raw: bool,
}

/// The one output.
const EMBEDDING: &str = "embedding";

/// Any number of elements.
const ANY: i64 = -1;

/// Texts of a request: more than Embed takes, which says so.
const MAX_TEXTS: usize = 4096;

impl EmbeddingRequest {
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
        let parameters = parameters(
            &request.parameters,
            SamplingSource::Nowhere,
            &mut violations,
        );
        let inputs = texts(&request, &mut violations);
        check_outputs(&request, &mut violations);
        violations.finish()?;
        let request_id = match request.id.len() <= MAX_REQUEST_ID {
            true => request.id.clone(),
            false => String::new(),
        };
        Ok(Self {
            embed: Embed {
                admission: ModelRequest {
                    name: named.requested_name,
                    operation: Operation::Embeddings,
                    priority: parameters.priority,
                    deadline: earliest(deadline, parameters.timeout),
                },
                inputs,
                request_id,
            },
            form: VectorsForm {
                version: named.version.to_string(),
                empty_final: parameters.empty_final,
                raw: !request.raw_input_contents.is_empty(),
                model: request.model_name,
                id: request.id,
            },
        })
    }
}

impl VectorsForm {
    /// A response without outputs.
    pub(super) fn empty(&self) -> ModelInferResponse {
        ModelInferResponse {
            model_name: self.model.clone(),
            model_version: self.version.clone(),
            id: self.id.clone(),
            ..ModelInferResponse::default()
        }
    }

    /// The response with these vectors.
    pub(super) fn response(&self, vectors: EmbedResponse) -> ModelInferResponse {
        let mut response = self.empty();
        let size = vectors.embeddings.first().map_or(0, |e| e.values.len());
        let count = vectors.embeddings.len();
        let values = vectors.embeddings.into_iter().flat_map(|e| e.values);
        let contents = if self.raw {
            let mut raw = BytesMut::with_capacity(count * size * size_of::<f32>());
            values.for_each(|value| raw.put_f32_le(value));
            response.raw_output_contents.push(raw.freeze());
            None
        } else {
            Some(InferTensorContents {
                fp32_contents: values.collect(),
                ..InferTensorContents::default()
            })
        };
        response.outputs.push(InferOutputTensor {
            name: EMBEDDING.to_owned(),
            datatype: Datatype::Fp32.name().to_owned(),
            shape: [count, size].map(|n| n.try_into().unwrap_or(ANY)).to_vec(),
            contents,
            ..InferOutputTensor::default()
        });
        response
    }
}

/// What ModelMetadata says of an embedding model.
pub(super) fn metadata(named: &NamedModel) -> ModelMetadataResponse {
    let tensor = |name: &str, datatype: Datatype, shape: Vec<i64>| TensorMetadata {
        name: name.to_owned(),
        datatype: datatype.name().to_owned(),
        shape,
    };
    ModelMetadataResponse {
        name: named.id.to_string(),
        versions: vec![named.version.to_string()],
        platform: PLATFORM.to_owned(),
        inputs: vec![tensor(TEXT_INPUT.name, Datatype::Bytes, vec![ANY])],
        outputs: vec![tensor(EMBEDDING, Datatype::Fp32, vec![ANY, size(named)])],
    }
}

/// What ModelConfig says of an embedding model.
pub(super) fn config(named: &NamedModel) -> ModelConfig {
    ModelConfig {
        name: named.id.to_string(),
        platform: PLATFORM.to_owned(),
        max_batch_size: 0,
        input: vec![ModelInput {
            name: TEXT_INPUT.name.to_owned(),
            data_type: Datatype::Bytes.config().into(),
            dims: vec![ANY],
            optional: false,
        }],
        output: vec![ModelOutput {
            name: EMBEDDING.to_owned(),
            data_type: Datatype::Fp32.config().into(),
            dims: vec![ANY, size(named)],
        }],
        backend: PLATFORM.to_owned(),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
    }
}

/// Whether `request` wants vectors.
pub(super) fn is_wanted(request: &ModelInferRequest) -> bool {
    request
        .outputs
        .iter()
        .any(|output| output.name == EMBEDDING)
}

/// Numbers in a vector, once a load has shown it.
fn size(named: &NamedModel) -> i64 {
    match named.embedding_size {
        0 => ANY,
        size => size.into(),
    }
}

/// The texts of `request`; what is wrong with it goes to `violations`.
fn texts(request: &ModelInferRequest, violations: &mut Violations) -> Vec<String> {
    let elements = text_input(request, violations)
        .and_then(|input| elements(input, &request.raw_input_contents, violations));
    let Some(elements) = elements else {
        return Vec::new();
    };
    let mut texts = Vec::with_capacity(elements.len());
    for (n, element) in elements.into_iter().enumerate() {
        match String::from_utf8(element.to_vec()) {
            Ok(text) => texts.push(text),
            Err(_) => {
                violations.add("inputs", format!("text_input[{n}] must be UTF-8"));
                return texts;
            }
        }
    }
    check_inputs(&texts, violations);
    texts
}

/// The one input that there is to be.
fn text_input<'a>(
    request: &'a ModelInferRequest,
    violations: &mut Violations,
) -> Option<&'a InferInputTensor> {
    let is_known = |input: &InferInputTensor| input.name == TEXT_INPUT.name;
    let others = request.inputs.iter().enumerate();
    let others = others.filter(|(_, input)| !is_known(input));
    for (n, input) in others.take(MAX_NAMED) {
        let what = format!("{} is no input of this model", truncated(&input.name));
        violations.add(format!("inputs[{n}].name"), what);
    }
    match &request.inputs[..] {
        [input] => Some(input).filter(|input| is_known(input)),
        inputs => {
            let no_others = inputs.iter().all(is_known);
            violations.check(!no_others, "inputs", "must have one entry, text_input");
            None
        }
    }
}

/// The elements of `input`, which `raws` may hold.
fn elements(
    input: &InferInputTensor,
    raws: &[Bytes],
    violations: &mut Violations,
) -> Option<Vec<Bytes>> {
    if raws.len() > 1 {
        let what = format!("must have one entry or none; it has {}", raws.len());
        violations.add("raw_input_contents", what);
        return None;
    }
    let count = count(input, violations)?;
    let empty = InferTensorContents::default();
    let contents = input.contents.as_ref().unwrap_or(&empty);
    match raws.first() {
        Some(_) if *contents != empty => {
            let what = "must not be given together with raw_input_contents";
            violations.add("inputs[0].contents", what);
            None
        }
        Some(raw) => violations.check_result("raw_input_contents[0]", from_raw(raw.clone(), count)),
        None => violations.check_result("inputs[0].contents", from_typed(contents, count)),
    }
}

/// How many texts an input says that it has.
fn count(input: &InferInputTensor, violations: &mut Violations) -> Option<usize> {
    let datatype = input.datatype == Datatype::Bytes.name();
    violations.check(datatype, "inputs[0].datatype", "text_input is BYTES");
    let none = input.parameters.is_empty();
    violations.check(none, "inputs[0].parameters", "text_input takes none");
    let count = match input.shape[..] {
        [count] | [count, 1] => usize::try_from(count).ok(),
        _ => None,
    };
    let count = count.filter(|count| (1..=MAX_TEXTS).contains(count));
    let what = "text_input has the shape [n] or [n, 1] with n from 1 to 1024";
    violations.check(count.is_some(), "inputs[0].shape", what);
    count.filter(|_| datatype && none)
}

/// So many texts, each after its length.
fn from_raw(mut raw: Bytes, count: usize) -> Result<Vec<Bytes>, String> {
    let mut texts = Vec::with_capacity(count);
    for n in 0..count {
        if raw.len() < 4 {
            return Err(format!(
                "ends before the length of element {n} of {count}, which takes four bytes"
            ));
        }
        let length = usize::try_from(raw.get_u32_le()).unwrap_or(usize::MAX);
        if length > raw.len() {
            return Err(format!(
                "the length of element {n} is said to be {length}, but {} bytes follow",
                raw.len()
            ));
        }
        texts.push(raw.split_to(length));
    }
    match raw.len() {
        0 => Ok(texts),
        more => Err(format!("{more} bytes follow the last of {count} elements")),
    }
}

fn from_typed(contents: &InferTensorContents, count: usize) -> Result<Vec<Bytes>, String> {
    let texts = contents.bytes_contents.clone();
    let alone = InferTensorContents {
        bytes_contents: texts.clone(),
        ..InferTensorContents::default()
    };
    if *contents == alone && texts.len() == count {
        return Ok(texts);
    }
    Err(format!(
        "must have {count} elements of BYTES, as the shape says, and no others"
    ))
}

fn check_outputs(request: &ModelInferRequest, violations: &mut Violations) {
    violations.check(
        request.outputs.len() <= 1,
        "outputs",
        "must have at most one entry, embedding",
    );
    if let Some(output) = request.outputs.first() {
        if output.name != EMBEDDING {
            let what = format!("{} is no output of this model", truncated(&output.name));
            violations.add("outputs[0].name", what);
        }
        let none = output.parameters.is_empty();
        violations.check(none, "outputs[0].parameters", "takes none");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn raw_texts_are_as_many_as_the_shape_says() {
        let read = |raw: &'static [u8], count| from_raw(Bytes::from_static(raw), count);
        let two = b"\x02\0\0\0hi\0\0\0\0";
        assert_eq!(read(two, 2), Ok(vec!["hi".into(), Bytes::new()]));
        for (raw, count) in [
            (&two[..], 1),
            (&two[..], 3),
            (b"\x02\0\0", 1),
            (b"\x03\0\0\0hi", 1),
            (b"\xff\xff\xff\xffhi", 1),
            (b"", 1),
        ] {
            assert!(read(raw, count).is_err(), "{raw:?} {count}");
        }
    }

    #[bounded::test]
    fn typed_texts_are_as_many_as_the_shape_says() {
        let contents = InferTensorContents {
            bytes_contents: vec!["a".into(), "b".into()],
            ..InferTensorContents::default()
        };
        assert!(from_typed(&contents, 2).is_ok());
        assert!(from_typed(&contents, 1).is_err());
        let mixed = InferTensorContents {
            int_contents: vec![1],
            ..contents
        };
        assert!(from_typed(&mixed, 2).is_err());
    }
}
