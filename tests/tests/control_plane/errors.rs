//! Every error carries a reason and fits into what clients take, also where no handler of the API answers.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
    v1::{
        ChatMessage, GenerateRequest, GetInfoRequest, GetModelRequest, LoadModelRequest,
        ModelSource, ModelSpec, ModelState, load_model_request::Target, model_source::Source,
    },
};
use hangar_tests::{
    fixtures::Fixtures,
    fuzz::HOSTILE,
    info,
    raw::{RawAnswer, RawCall, RawClient, frame},
    server::TestServer,
};
use prost::Message;
use prost_types::{Struct, Value, value::Kind};
use rstest::rstest;
use tonic::Code;
use tonic_types::StatusExt;

const INFO: &str = "/hangar.v1.ModelService/GetInfo";
const GENERATE: &str = "/hangar.v1.InferenceService/Generate";
const WATCH: &str = "/hangar.v1.ModelService/WatchStatus";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

async fn refused(caller: &RawClient, call: RawCall, code: Code, reason: &str) -> Result<RawAnswer> {
    let path = call.path.clone();
    let answer = caller.call(call).await?;
    let reported = (answer.status.code(), answer.error_info()?.reason);
    assert_eq!(reported, (code, reason.to_owned()), "{path}: {answer}");
    assert!(!answer.status.message().is_empty(), "{path}");
    Ok(answer)
}

/// With another flag before its message.
fn flagged(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut framed = frame(message).to_vec();
    framed[0] = flag;
    framed
}

/// A server without a model, and what calls it.
async fn served() -> Result<(TestServer, RawClient)> {
    let server = TestServer::real().start().await?;
    let caller = RawClient::connect(&server.url()).await?;
    Ok((server, caller))
}

#[hangar_tests::test]
async fn a_message_that_is_too_large_or_no_message_is_refused_with_a_reason() -> Result<()> {
    let options = TestServer::real()
        .argument("--max-request-bytes")
        .argument("100000");
    let server = options.start().await?;
    let caller = RawClient::connect(&server.url()).await?;
    for path in [INFO, GENERATE, INFER, WATCH] {
        let large = RawCall::of(path, &vec![0; 100_001]);
        refused(&caller, large, Code::OutOfRange, "MESSAGE_TOO_LARGE").await?;
        let malformed = RawCall::of(path, &[0xff; 10]);
        refused(&caller, malformed, Code::Internal, "MALFORMED_MESSAGE").await?;
    }
    let with = |body: Vec<u8>| RawCall {
        body: body.into(),
        ..RawCall::of(INFO, &[])
    };
    for body in [
        flagged(1, &[]),
        flagged(7, &[]),
        vec![],
        vec![0; 3],
        vec![0, 0, 0, 0, 9, 1],
    ] {
        refused(&caller, with(body), Code::Internal, "MALFORMED_MESSAGE").await?;
    }
    let unzipped = with(flagged(1, b"no gzip")).header("grpc-encoding", "gzip");
    refused(&caller, unzipped, Code::Internal, "MALFORMED_MESSAGE").await?;
    let snappy = with(flagged(1, &[])).header("grpc-encoding", "snappy");
    refused(&caller, snappy, Code::Unimplemented, "UNSUPPORTED_ENCODING").await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_method_that_nobody_has_is_refused_by_its_name() -> Result<()> {
    let (_server, caller) = served().await?;
    for path in [
        "/hangar.v1.ModelService/Nothing",
        "/hangar.v1.NoService/GetInfo",
        "/grpc.health.v1.Health/Nothing",
        "/",
    ] {
        let call = RawCall::of(path, &[]);
        let unknown = refused(&caller, call, Code::Unimplemented, "UNKNOWN_METHOD").await?;
        let info = unknown.error_info()?;
        assert_eq!(info.metadata["method"], path.trim_start_matches('/'));
    }
    Ok(())
}

#[hangar_tests::test]
async fn headers_that_are_too_large_are_refused_with_their_limit() -> Result<()> {
    let (_server, caller) = served().await?;
    for length in [17_000, 60_000] {
        let large = RawCall::of(INFO, &[]).header("x-large", &"x".repeat(length));
        let refused = refused(&caller, large, Code::ResourceExhausted, "LIMIT_REACHED").await?;
        assert_eq!(refused.error_info()?.metadata["limit"], "16384");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_deadline_that_is_over_or_none_is_refused_with_a_reason() -> Result<()> {
    const OVER: &str = "DEADLINE_EXCEEDED";
    let (_server, caller) = served().await?;
    let expired = RawCall::of(INFO, &[]).header("grpc-timeout", "0n");
    refused(&caller, expired, Code::DeadlineExceeded, OVER).await?;
    let never = RawCall::of(INFO, &[]).header("grpc-timeout", "soon");
    refused(&caller, never, Code::InvalidArgument, "INVALID_FIELD").await?;
    let watch = RawCall::of(WATCH, &[]).within(Duration::from_millis(50));
    refused(&caller, watch, Code::DeadlineExceeded, OVER).await?;
    Ok(())
}

#[hangar_tests::test]
async fn what_uses_no_model_takes_small_requests() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let caller = RawClient::connect(&server.url()).await?;
    for (path, limit) in [
        (INFO, 1 << 20),
        ("/hangar.v1.ModelService/LoadModel", 1 << 20),
        (WATCH, 2 << 20),
        ("/hangar.v1.CatalogService/CreateModel", 1 << 20),
        ("/hangar.v1.CatalogService/ListModels", 1 << 20),
        ("/hangar.v1.SessionService/CreateSession", 4 << 10),
        ("/inference.GRPCInferenceService/ModelConfig", 1 << 20),
    ] {
        let large = RawCall::of(path, &vec![0; limit + 1]);
        refused(&caller, large, Code::OutOfRange, "MESSAGE_TOO_LARGE").await?;
        let malformed = RawCall::of(path, &vec![0; limit]);
        refused(&caller, malformed, Code::Internal, "MALFORMED_MESSAGE").await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn errors_of_health_and_reflection_carry_a_reason_too() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let health = |name: &str| {
        let request = tonic_health::pb::HealthCheckRequest {
            service: name.to_owned(),
        };
        RawCall::of("/grpc.health.v1.Health/Check", &request.encode_to_vec())
    };
    for url in [server.url(), format!("http://{}", server.ops_listen())] {
        let caller = RawClient::connect(&url).await?;
        let unknown = refused(
            &caller,
            health("model/none"),
            Code::NotFound,
            "NAME_NOT_FOUND",
        )
        .await?;
        assert!(unknown.status.get_details_resource_info().is_some());
        let large = health(&"x".repeat(5_000));
        refused(&caller, large, Code::OutOfRange, "MESSAGE_TOO_LARGE").await?;
        let other = RawCall::of("/no.Service/Method", &[]);
        refused(&caller, other, Code::Unimplemented, "UNKNOWN_METHOD").await?;
    }
    let caller = RawClient::connect(&server.url()).await?;
    for version in ["v1", "v1alpha"] {
        // Field 4: a symbol.
        let symbol = RawCall::of(
            &format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"),
            b"\x22\x04none",
        );
        refused(&caller, symbol, Code::NotFound, "NAME_NOT_FOUND").await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn callers_words_are_cut_wherever_they_get_into_an_error() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let caller = RawClient::connect(&server.url()).await?;
    for words in ["x".repeat(5_000), "ß".repeat(5_000), "😀 ".repeat(200_000)] {
        let get = GetModelRequest {
            model_id: words.clone(),
            ..GetModelRequest::default()
        };
        let info = GetInfoRequest {
            model_id: words.clone(),
            ..GetInfoRequest::default()
        };
        let source = Some(Source::Path(format!("/{words}")));
        let spec = ModelSpec {
            source: Some(ModelSource { source }),
            languages: vec![words.clone(); 10],
            chat_template: words.clone(),
            tokenizer: words.clone(),
            ..ModelSpec::default()
        };
        let load = LoadModelRequest {
            target: Some(Target::ModelId("m".to_owned())),
            spec: Some(spec),
            session_id: words.clone(),
            ..LoadModelRequest::default()
        };
        let input = InferInputTensor {
            name: words.clone(),
            datatype: words.clone(),
            ..Default::default()
        };
        let infer = ModelInferRequest {
            model_name: words.clone(),
            inputs: vec![input],
            ..ModelInferRequest::default()
        };
        for call in [
            RawCall::of("/hangar.v1.CatalogService/GetModel", &get.encode_to_vec()),
            RawCall::of(INFO, &info.encode_to_vec()),
            RawCall::of("/hangar.v1.ModelService/LoadModel", &load.encode_to_vec()),
            RawCall::of(INFER, &infer.encode_to_vec()),
            RawCall::of(INFO, &[]).header("grpc-encoding", &"x".repeat(9_000)),
        ] {
            let path = call.path.clone();
            let answer = caller.call(call).await?;
            assert!(!answer.error_info()?.reason.is_empty(), "{path}: {answer}");
        }
    }
    Ok(())
}

/// A request that the template refuses with these words, as an option or in a message.
fn hostile(words: &str, option: bool) -> RawCall {
    let message = |content: String| ChatMessage {
        role: "user".to_owned(),
        content,
        ..ChatMessage::default()
    };
    let effort = Value {
        kind: Some(Kind::StringValue(words.to_owned())),
    };
    let request = GenerateRequest {
        model_id: "m".to_owned(),
        messages: vec![message(match option {
            true => "Hi".to_owned(),
            false => format!("refuse {words}"),
        })],
        chat_template_options: option.then(|| Struct {
            fields: [("reasoning_effort".to_owned(), effort)].into(),
        }),
        ..GenerateRequest::default()
    };
    RawCall::of(GENERATE, &request.encode_to_vec())
}

#[rstest]
#[case::ascii("x")]
#[case::two_bytes("ö")]
#[case::four_bytes("😀")]
#[hangar_tests::test]
async fn no_template_kills_its_worker_with_the_callers_words(#[case] letter: &str) -> Result<()> {
    let server = TestServer::tiny_with(|spec| spec.chat_template = HOSTILE.to_owned()).await?;
    let caller = RawClient::connect(&server.url()).await?;
    let pid = info::worker(&server.client, "m").await?;
    for length in [10, 4_000, 5_000, 100_000] {
        let words = letter.repeat(length);
        // Five deaths in a row would make the model FAILED.
        for _ in 0..5 {
            for option in [false, true] {
                let answer = caller.call(hostile(&words, option)).await?;
                let reason = answer.error_info()?.reason;
                let reported = (answer.status.code(), reason.as_str());
                assert_eq!(
                    reported,
                    (Code::InvalidArgument, "INVALID_FIELD"),
                    "{answer}"
                );
            }
        }
    }
    let model = server.info().await?;
    let status = model.status.unwrap_or_default();
    assert_eq!(
        (status.state(), status.worker_pid),
        (ModelState::Ready, pid)
    );
    assert_eq!(model.metrics.unwrap_or_default().restarts, 0);
    Ok(())
}
