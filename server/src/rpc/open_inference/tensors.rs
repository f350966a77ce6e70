//! Tensors of one element, as they come and go: typed, or raw (little endian, texts after their length).

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use hangar_client::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse,
    model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor,
};

use super::{
    conventions::{Datatype, SHAPE, Tensor},
    truncated::truncated,
};
use crate::rpc::validate::Violations;

/// The element of an input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Element {
    Bytes(Bytes),
    Bool(bool),
    Uint32(u32),
    Fp32(f32),
}

/// Inputs that a request may have: more than there are, and not so many that an error about each is large.
const MAX_INPUTS: usize = 16;

/// The elements of the inputs of `request` by name; what is wrong with them goes to `violations`.
pub(super) fn read(
    request: &ModelInferRequest,
    known: &[Tensor],
    violations: &mut Violations,
) -> BTreeMap<&'static str, Element> {
    let (inputs, raws) = (&request.inputs, &request.raw_input_contents);
    let mut elements = BTreeMap::new();
    if inputs.len() > MAX_INPUTS {
        violations.add("inputs", "must have at most 16 entries");
        return elements;
    }
    if !raws.is_empty() && raws.len() != inputs.len() {
        let what = format!(
            "must have an entry for each of the {} inputs, or none; it has {}",
            inputs.len(),
            raws.len()
        );
        violations.add("raw_input_contents", what);
        return elements;
    }
    for (n, input) in inputs.iter().enumerate() {
        let Some(tensor) = known.iter().find(|tensor| tensor.name == input.name) else {
            let what = format!("{} is no input of this model", truncated(&input.name));
            violations.add(format!("inputs[{n}].name"), what);
            continue;
        };
        if let Some(element) = read_one(n, input, raws.get(n), tensor, violations)
            && elements.insert(tensor.name, element).is_some()
        {
            let what = format!("{} is given twice", tensor.name);
            violations.add(format!("inputs[{n}].name"), what);
        }
    }
    for tensor in known.iter().filter(|tensor| !tensor.optional) {
        let given = inputs.iter().any(|input| input.name == tensor.name);
        violations.check(given, "inputs", &format!("{} is required", tensor.name));
    }
    elements
}

/// The element of the `n`th input, which is `tensor`.
fn read_one(
    n: usize,
    input: &InferInputTensor,
    raw: Option<&Bytes>,
    tensor: &Tensor,
    violations: &mut Violations,
) -> Option<Element> {
    let (name, datatype) = (tensor.name, tensor.datatype.name());
    let mut wrong = false;
    let mut check = |right: bool, field: &str, what: String| {
        wrong |= !right;
        violations.check(right, &format!("inputs[{n}].{field}"), &what);
    };
    check(
        input.datatype == datatype,
        "datatype",
        format!("{name} is {datatype}"),
    );
    check(
        input.shape == SHAPE,
        "shape",
        format!("{name} has one element: its shape is [1]"),
    );
    check(
        input.parameters.is_empty(),
        "parameters",
        format!("{name} takes none"),
    );
    let empty = InferTensorContents::default();
    let contents = input.contents.as_ref().unwrap_or(&empty);
    check(
        raw.is_none() || *contents == empty,
        "contents",
        "must not be given together with raw_input_contents".to_owned(),
    );
    if wrong {
        return None;
    }
    match raw {
        Some(raw) => violations.check_result(
            &format!("raw_input_contents[{n}]"),
            from_raw(raw, tensor.datatype),
        ),
        None => violations.check_result(
            &format!("inputs[{n}].contents"),
            from_typed(contents, tensor.datatype),
        ),
    }
}

fn from_raw(raw: &Bytes, datatype: Datatype) -> Result<Element, String> {
    let size = |size: usize| match raw.len() == size {
        true => Ok(raw.clone()),
        false => Err(format!("must have {size} bytes, has {}", raw.len())),
    };
    match datatype {
        Datatype::Bytes => {
            let Some((length, rest)) = raw.split_first_chunk::<4>() else {
                return Err("is shorter than the four bytes of an element's length".to_owned());
            };
            let length = u32::from_le_bytes(*length);
            if usize::try_from(length) != Ok(rest.len()) {
                return Err(format!(
                    "must have one element; its length is said to be {length}, and {} bytes follow",
                    rest.len()
                ));
            }
            Ok(Element::Bytes(raw.slice(4..)))
        }
        Datatype::Bool => match size(1)?.get_u8() {
            0 => Ok(Element::Bool(false)),
            1 => Ok(Element::Bool(true)),
            other => Err(format!("must be 0 or 1, is {other}")),
        },
        Datatype::Uint32 => Ok(Element::Uint32(size(4)?.get_u32_le())),
        Datatype::Fp32 => Ok(Element::Fp32(size(4)?.get_f32_le())),
    }
}

fn from_typed(contents: &InferTensorContents, datatype: Datatype) -> Result<Element, String> {
    let element = match datatype {
        Datatype::Bytes => contents.bytes_contents.first().cloned().map(Element::Bytes),
        Datatype::Bool => contents.bool_contents.first().copied().map(Element::Bool),
        Datatype::Uint32 => contents.uint_contents.first().copied().map(Element::Uint32),
        Datatype::Fp32 => contents.fp32_contents.first().copied().map(Element::Fp32),
    };
    element
        .filter(|element| *contents == element.clone().typed())
        .ok_or_else(|| format!("must have one element of {}", datatype.name()))
}

/// Adds an output to `response`, raw or typed.
pub(super) fn write(
    response: &mut ModelInferResponse,
    tensor: &Tensor,
    element: Element,
    raw: bool,
) {
    let contents = if raw {
        response.raw_output_contents.push(element.raw());
        None
    } else {
        Some(element.typed())
    };
    response.outputs.push(InferOutputTensor {
        name: tensor.name.to_owned(),
        datatype: tensor.datatype.name().to_owned(),
        shape: SHAPE.to_vec(),
        contents,
        ..InferOutputTensor::default()
    });
}

impl Element {
    fn typed(self) -> InferTensorContents {
        let mut contents = InferTensorContents::default();
        match self {
            Self::Bytes(bytes) => contents.bytes_contents.push(bytes),
            Self::Bool(value) => contents.bool_contents.push(value),
            Self::Uint32(value) => contents.uint_contents.push(value),
            Self::Fp32(value) => contents.fp32_contents.push(value),
        }
        contents
    }

    fn raw(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => {
                // An answer is far below 4 GiB.
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                [&length.to_le_bytes()[..], &bytes].concat().into()
            }
            Self::Bool(value) => vec![u8::from(value)].into(),
            Self::Uint32(value) => value.to_le_bytes().to_vec().into(),
            Self::Fp32(value) => value.to_le_bytes().to_vec().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn what_is_written_is_read_again() {
        for (element, datatype) in [
            (Element::Bytes("h\u{e9}".into()), Datatype::Bytes),
            (Element::Bytes(Bytes::new()), Datatype::Bytes),
            (Element::Bool(true), Datatype::Bool),
            (Element::Uint32(0x0102_0304), Datatype::Uint32),
            (Element::Fp32(-0.5), Datatype::Fp32),
        ] {
            let raw = from_raw(&element.clone().raw(), datatype);
            assert_eq!(raw, Ok(element.clone()));
            let typed = from_typed(&element.clone().typed(), datatype);
            assert_eq!(typed, Ok(element));
        }
    }

    #[bounded::test]
    fn lengths_are_little_endian_and_have_to_be_right() {
        let read = |raw: &'static [u8]| from_raw(&Bytes::from_static(raw), Datatype::Bytes);
        assert_eq!(
            read(b"\x02\0\0\0hi"),
            Ok(Element::Bytes(Bytes::from_static(b"hi")))
        );
        for wrong in [
            &b""[..],
            b"\x02\0\0",
            b"\x02\0\0\0h",
            b"\x02\0\0\0hi!",
            b"\0\0\0\x02hi",
            b"\xff\xff\xff\xffhi",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[bounded::test]
    fn typed_contents_have_exactly_one_element_of_their_type() {
        let two = InferTensorContents {
            bytes_contents: vec!["a".into(), "b".into()],
            ..InferTensorContents::default()
        };
        let mixed = InferTensorContents {
            bool_contents: vec![true],
            ..Element::Bytes("a".into()).typed()
        };
        let other = Element::Bool(true).typed();
        let none = InferTensorContents::default();
        for contents in [two, mixed, other, none] {
            assert!(
                from_typed(&contents, Datatype::Bytes).is_err(),
                "{contents:?}"
            );
        }
    }
}
