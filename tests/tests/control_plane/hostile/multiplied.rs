//! Requests that are small on the wire and large in memory.

use anyhow::Result;
use hangar_client::{
    inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{
        ChatMessage, ContentPart, EmbedRequest, GenerateRequest, TokenizeRequest,
        content_part::Part,
    },
};
use hangar_tests::{
    processes::peak_bytes,
    raw::{RawCall, RawClient},
    server::TestServer,
};
use prost::Message;
use rstest::rstest;
use tonic::Code;

use super::STREAM_INFER;

const GENERATE: &str = "/hangar.v1.InferenceService/Generate";
const TOKENIZE: &str = "/hangar.v1.InferenceService/Tokenize";
const EMBED: &str = "/hangar.v1.InferenceService/Embed";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// What the server takes in one message.
const MAX_MESSAGE: usize = 16 << 20;

/// What a request may make it take beside that and a few copies.
const BOUND: u64 = 400 << 20;

/// Fields of two bytes: entries of lists, each of them empty.
#[rstest]
#[case::messages(GENERATE, &[0x1a, 0])]
#[case::stop_texts(GENERATE, &[0x32, 0])]
#[case::tools(TOKENIZE, &[0x2a, 0])]
#[case::texts(EMBED, &[0x12, 0])]
#[case::inputs(INFER, &[0x2a, 0])]
#[case::parameters(STREAM_INFER, &[0x22, 0])]
#[hangar_tests::test]
async fn a_request_takes_a_bounded_memory(#[case] path: &str, #[case] entry: &[u8]) -> Result<()> {
    let server = TestServer::scripted().start().await?;
    let caller = RawClient::connect(&server.url()).await?;
    let entries = entry.repeat(MAX_MESSAGE / entry.len());
    let before = peak_bytes(server.pid())?;
    let answer = caller.call(RawCall::of(path, &entries)).await?;
    assert_eq!(answer.status.code(), Code::ResourceExhausted, "{answer}");
    assert_eq!(answer.error_info()?.reason, "MESSAGE_TOO_LARGE");
    let grown = peak_bytes(server.pid())?.saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes");
    Ok(())
}

fn message() -> ChatMessage {
    ChatMessage {
        role: "user".into(),
        content: "x".repeat(400),
        ..ChatMessage::default()
    }
}

fn generate() -> GenerateRequest {
    GenerateRequest {
        model_id: "nobody".into(),
        ..GenerateRequest::default()
    }
}

fn infer() -> ModelInferRequest {
    let contents = InferTensorContents {
        bytes_contents: vec![vec![b'x'; 2 << 10].into(); 1024],
        ..InferTensorContents::default()
    };
    ModelInferRequest {
        model_name: "nobody".into(),
        inputs: vec![InferInputTensor {
            name: "text_input".into(),
            datatype: "BYTES".into(),
            shape: vec![1024],
            contents: Some(contents),
            ..InferInputTensor::default()
        }],
        ..ModelInferRequest::default()
    }
}

/// What the documentation allows comes as far as to the question which model is meant.
#[hangar_tests::test]
async fn large_requests_are_taken() -> Result<()> {
    let server = TestServer::scripted().start().await?;
    let caller = RawClient::connect(&server.url()).await?;
    let messages = GenerateRequest {
        messages: vec![message(); 16_384],
        ..generate()
    };
    let tokens = GenerateRequest {
        prompt_token_ids: vec![1 << 20; 1 << 20],
        ..generate()
    };
    let image = ContentPart {
        part: Some(Part::Image(vec![0; 12 << 20].into())),
    };
    let image = GenerateRequest {
        messages: vec![ChatMessage {
            content: String::new(),
            parts: vec![image],
            ..message()
        }],
        ..generate()
    };
    let tokenized = TokenizeRequest {
        model_id: "nobody".into(),
        messages: vec![message(); 16_384],
        ..TokenizeRequest::default()
    };
    let embedded = EmbedRequest {
        model_id: "nobody".into(),
        inputs: vec!["x".repeat(8 << 10); 1024],
        ..EmbedRequest::default()
    };
    for (path, message) in [
        (GENERATE, messages.encode_to_vec()),
        (GENERATE, tokens.encode_to_vec()),
        (GENERATE, image.encode_to_vec()),
        (TOKENIZE, tokenized.encode_to_vec()),
        (EMBED, embedded.encode_to_vec()),
        (INFER, infer().encode_to_vec()),
    ] {
        let answer = caller.call(RawCall::of(path, &message)).await?;
        assert_eq!(answer.error_info()?.reason, "MODEL_NOT_FOUND", "{answer}");
    }
    Ok(())
}
