//! What requests take, and that no message takes more than is counted.

use std::{collections::BTreeSet, mem::size_of};

use proptest::prelude::*;
use prost::{Name, bytes::Bytes};
use prost_types::{Struct, Value, value::Kind};

use super::*;
use crate::{
    inference::{
        InferParameter, InferTensorContents, ModelInferRequest, ModelRepositoryParameter,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    server_codec::MAX_DECODED,
    v1::{
        ChatMessage, ContentPart, EmbedRequest, GenerateRequest, LoraAdapter, Tool, ToolCall,
        content_part::Part,
    },
};

/// The size of each message that is in a list or map of a request.
const SIZES: [(&str, usize); 10] = [
    ("google.protobuf.Value", size_of::<Value>()),
    ("hangar.v1.ChatMessage", size_of::<ChatMessage>()),
    ("hangar.v1.ContentPart", size_of::<ContentPart>()),
    ("hangar.v1.LoraAdapter", size_of::<LoraAdapter>()),
    ("hangar.v1.Tool", size_of::<Tool>()),
    ("hangar.v1.ToolCall", size_of::<ToolCall>()),
    ("inference.InferParameter", size_of::<InferParameter>()),
    (
        "inference.ModelInferRequest.InferInputTensor",
        size_of::<InferInputTensor>(),
    ),
    (
        "inference.ModelInferRequest.InferRequestedOutputTensor",
        size_of::<InferRequestedOutputTensor>(),
    ),
    (
        "inference.ModelRepositoryParameter",
        size_of::<ModelRepositoryParameter>(),
    ),
];

/// The names of all requests.
fn requests() -> BTreeSet<String> {
    let files = sets().flat_map(|set| set.file);
    let services = files.flat_map(|file| file.service);
    let methods = services.flat_map(|service| service.method);
    methods
        .map(|method| method.input_type().trim_start_matches('.').to_owned())
        .collect()
}

/// The messages that are in lists and maps of requests.
fn listed() -> BTreeSet<String> {
    let messages: BTreeMap<_, _> = messages(sets()).into_iter().collect();
    let (mut listed, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut next: Vec<_> = requests().iter().map(|name| format!(".{name}")).collect();
    while let Some(name) = next.pop() {
        let message = &messages[&name];
        for field in &message.field {
            if field.r#type() != Type::Message {
                continue;
            }
            let inner = field.type_name();
            // The value of a map is in its entry.
            let many = field.label() == Label::Repeated || is_entry(message);
            if many && !is_entry(&messages[inner]) {
                listed.insert(inner.trim_start_matches('.').to_owned());
            }
            if seen.insert(inner.to_owned()) {
                next.push(inner.to_owned());
            }
        }
    }
    listed
}

fn exceeds<M: Message + Name>(message: &[u8]) -> bool {
    let counter = Counter::of(&M::full_name());
    counter.cost(message, MAX_DECODED).is_err()
}

fn takes<M: Message + Name>(message: &M) -> bool {
    !exceeds::<M>(&message.encode_to_vec())
}

/// 16 MiB of these bytes.
fn many(bytes: &[u8]) -> Vec<u8> {
    bytes.repeat((16 << 20) / bytes.len())
}

/// These bytes as the field `number`.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![(number << 3) | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

#[bounded::test]
fn every_set_can_be_decoded() {
    assert_eq!(sets().count(), 2);
}

#[bounded::test]
fn every_request_is_known() {
    for name in requests() {
        assert!(Counter::of(&name).root.is_some(), "{name}");
    }
}

#[bounded::test]
fn no_message_is_larger_than_it_counts() {
    let sizes: BTreeSet<_> = SIZES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(sizes, listed());
    for (name, size) in SIZES {
        assert!(size <= MESSAGE, "{name}: {size}");
    }
    let entry = size_of::<String>() + size_of::<Value>().max(size_of::<InferParameter>());
    assert!(11 * entry + 100 <= FIRST_ENTRY, "{entry}");
}

#[bounded::test]
fn lists_of_nothing_are_refused() {
    let generate = exceeds::<GenerateRequest>;
    // Messages, tools, stop texts.
    for list in [[0x1a, 0], [0x5a, 0], [0x32, 0]] {
        assert!(generate(&many(&list)), "{list:?}");
    }
    // Parts and calls of a message.
    for list in [[0x1a, 0], [0x22, 0]] {
        assert!(generate(&field(3, &many(&list))), "{list:?}");
    }
    // Entries of the options, and lists of lists in one of them.
    assert!(generate(&field(14, &many(&[0x0a, 0]))));
    let values = field(2, &field(6, &many(&[0x0a, 0])));
    assert!(generate(&field(14, &field(1, &values))));
    // Entries without one another's company.
    assert!(generate(&many(&[0x1a, 4, 0x42, 2, 0x0a, 0])));
    // Numbers of a byte.
    assert!(exceeds::<EmbedRequest>(&many(&[0x12, 0])));
    // Inputs, their parameters and texts.
    for list in [&[0x2a, 0][..], &[0x2a, 2, 0x22, 0], &[0x3a, 0]] {
        assert!(exceeds::<ModelInferRequest>(&many(list)), "{list:?}");
    }
}

#[bounded::test]
fn what_is_longer_than_what_it_is_in_is_counted() {
    // A message that ends before its first field does: prost reads that to its own end.
    let nested = [&[0x1a, 2][..], &field(8, &many(&[0x0a, 0]))].concat();
    assert!(exceeds::<GenerateRequest>(&nested));
}

#[bounded::test]
fn what_the_documentation_allows_is_taken() {
    let message = ChatMessage {
        role: "user".to_owned(),
        content: "x".repeat(400),
        name: "n".to_owned(),
        ..ChatMessage::default()
    };
    assert!(takes(&GenerateRequest {
        messages: vec![message; 16_384],
        ..GenerateRequest::default()
    }));
    assert!(takes(&GenerateRequest {
        prompt_token_ids: vec![u32::MAX; 1 << 20],
        stop_token_ids: vec![1; 128],
        logit_bias: (0..1024).map(|token| (token, 1.0)).collect(),
        ..GenerateRequest::default()
    }));
    assert!(takes(&EmbedRequest {
        inputs: vec!["x".repeat(8 << 10); 1024],
        ..EmbedRequest::default()
    }));
}

#[bounded::test]
fn an_image_and_large_tools_are_taken() {
    let image = Some(Part::Image(Bytes::from(vec![0; 15 << 20])));
    assert!(takes(&GenerateRequest {
        messages: vec![ChatMessage {
            parts: vec![ContentPart { part: image }],
            ..ChatMessage::default()
        }],
        ..GenerateRequest::default()
    }));
    let numbers = Value {
        kind: Some(Kind::NumberValue(1.0)),
    };
    let parameters = Struct {
        fields: (0..3000)
            .map(|n| (n.to_string(), numbers.clone()))
            .collect(),
    };
    assert!(takes(&GenerateRequest {
        tools: vec![Tool {
            parameters: Some(parameters),
            ..Tool::default()
        }],
        ..GenerateRequest::default()
    }));
    let contents = InferTensorContents {
        bytes_contents: vec![Bytes::from(vec![0; 2 << 10]); 4096],
        ..InferTensorContents::default()
    };
    assert!(takes(&ModelInferRequest {
        inputs: vec![InferInputTensor {
            contents: Some(contents),
            ..InferInputTensor::default()
        }],
        ..ModelInferRequest::default()
    }));
}

proptest! {
    #[bounded::test]
    fn any_bytes_can_be_counted(message: Vec<u8>) {
        exceeds::<GenerateRequest>(&message);
        exceeds::<ModelInferRequest>(&message);
    }
}
