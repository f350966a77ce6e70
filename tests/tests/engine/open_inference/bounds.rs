//! Prompts and sampling of any size, and many callers: each gets its answer or its error, and nothing is harmed.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use hangar_client::inference::{ModelInferRequest, infer_parameter::ParameterChoice};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::Code;

use super::{
    InferenceServer, code_and_reason, fields, flag, number_of, parameter, raw,
    streams::InferStream, text, text_of, with,
};

/// Context of the tiny Llama in tokens.
const CONTEXT: usize = 256;

/// What a request may do to the model: nothing.
struct HealthCheck {
    server: InferenceServer,
    worker: u32,
    answer: String,
}

impl HealthCheck {
    async fn begin(server: InferenceServer) -> Result<Self> {
        Ok(Self {
            worker: server.worker().await?,
            answer: server.expected("Hello", 20).await?,
            server,
        })
    }

    async fn check(&self) -> Result<()> {
        let request = self.server.greedy("Hello", 20);
        let response = self.server.stub().model_infer(request).await?.into_inner();
        let answer = text_of(&response, "text_output");
        assert_eq!(answer.as_ref(), Some(&self.answer));
        assert_eq!(self.server.worker().await?, self.worker);
        Ok(())
    }

    /// Field of the error that a request gets.
    async fn refused(&self, request: ModelInferRequest) -> Vec<String> {
        let expected = (Code::InvalidArgument, "INVALID_FIELD".to_owned());
        match self.server.stub().model_infer(request).await {
            Ok(response) => panic!("not refused: {response:?}"),
            Err(status) => {
                assert_eq!(code_and_reason(&status), expected, "{status:?}");
                fields(&status)
            }
        }
    }
}

#[hangar_tests::test]
async fn prompts_of_any_length_get_their_answer_or_their_error() -> Result<()> {
    let model = HealthCheck::begin(InferenceServer::tiny().await?).await?;
    let server = &model.server;
    assert_eq!(model.refused(server.greedy("", 1)).await, ["inputs"]);
    for length in [1, CONTEXT - 1] {
        let counted = [
            flag("return_num_input_tokens", true),
            flag("return_num_output_tokens", true),
        ];
        let request = with(server.greedy(&"x".repeat(length), 1), counted);
        for request in [request.clone(), raw(request)] {
            let response = server.stub().model_infer(request).await?.into_inner();
            let count = |name| number_of(&response, name);
            assert_eq!(count("num_input_tokens"), Some(u32::try_from(length)?));
            assert_eq!(count("num_output_tokens"), Some(1));
        }
    }
    let mut call = InferStream::begin(server).await?;
    for length in [CONTEXT, CONTEXT + 1, 1_000_000] {
        let request = server.greedy(&"x".repeat(length), 1);
        for request in [request.clone(), raw(request.clone())] {
            let status = server.stub().model_infer(request).await.unwrap_err();
            let expected = (Code::InvalidArgument, "CONTEXT_EXCEEDED".to_owned());
            assert_eq!(code_and_reason(&status), expected, "{length}");
        }
        let responses = call.ask(request).await?;
        assert_eq!(responses.len(), 1);
        assert!(responses[0].error_message.contains("context"));
        model.check().await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn sampling_out_of_range_is_named_however_it_is_given() -> Result<()> {
    let model = HealthCheck::begin(InferenceServer::tiny().await?).await?;
    for (name, wrong) in [
        ("temperature", [-0.01, 2.01]),
        ("top_p", [0.0, 1.01]),
        ("min_p", [-0.01, 1.01]),
        ("presence_penalty", [-2.01, 2.01]),
        ("frequency_penalty", [-2.01, 2.01]),
        ("repetition_penalty", [0.0, 2.01]),
    ] {
        let never = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39, -1e300];
        for value in wrong.into_iter().chain(never) {
            // JSON has no NaN and no infinity, but texts of them.
            let json = match value.is_finite() {
                true => format!(r#"{{"{name}": {value}}}"#),
                false => format!(r#"{{"{name}": "{value}"}}"#),
            };
            let mut by_json = model.server.greedy("x", 1);
            by_json.inputs[1] = text("sampling_parameters", &json);
            let field = format!("sampling_parameters.{name}");
            for request in [by_json.clone(), raw(by_json)] {
                assert_eq!(model.refused(request).await, [field.as_str()], "{json}");
            }
            let mut by_parameter = model.server.greedy("x", 1);
            by_parameter.inputs.remove(1);
            let value = parameter(ParameterChoice::DoubleParam(value));
            by_parameter.parameters.insert(name.into(), value);
            let field = format!("parameters.{name}");
            assert_eq!(model.refused(by_parameter).await, [field]);
        }
    }
    model.check().await
}

#[hangar_tests::test]
async fn whole_numbers_out_of_range_are_named() -> Result<()> {
    let model = HealthCheck::begin(InferenceServer::tiny().await?).await?;
    for (name, wrong) in [
        ("top_k", ["-2", "1.5", "4294967296", "1e3", "true"]),
        ("max_tokens", ["-1", "0", "4294967296", "0.5", "[]"]),
        ("seed", ["-1", "1.5", "18446744073709551616", "1e30", "{}"]),
        ("logprobs", ["-1", "21", "1.5", "4294967296", "\"\""]),
        ("stop", ["1", "[1]", "{}", "[null]", "true"]),
    ] {
        for value in wrong {
            let mut request = model.server.greedy("x", 1);
            let json = format!(r#"{{"{name}": {value}}}"#);
            request.inputs[1] = text("sampling_parameters", &json);
            let field = format!("sampling_parameters.{name}");
            assert_eq!(model.refused(request).await, [field], "{json}");
        }
    }
    let beyond = model.server.greedy("x", u32::MAX);
    let status = model.server.stub().model_infer(beyond).await.unwrap_err();
    let expected = (Code::InvalidArgument, "CONTEXT_EXCEEDED".to_owned());
    assert_eq!(code_and_reason(&status), expected);
    model.check().await
}

#[hangar_tests::test]
async fn a_thousand_callers_that_connect_request_and_disconnect_harm_nothing() -> Result<()> {
    let server = InferenceServer::long(|spec| spec.max_queue = Some(1000)).await?;
    let model = HealthCheck::begin(server).await?;
    let server = &model.server;
    for wave in 0..10 {
        let callers = (0..100u32).map(async |number| {
            let client = server.connect().await?;
            let mut stub = super::Stub::new(client.transport());
            let mut request = server.greedy("Hello", 16_000);
            let call = async {
                if (number + wave) % 2 == 0 {
                    return stub.model_infer(request).await.map(drop);
                }
                request.inputs[2] = flag("stream", true);
                let requests = tokio_stream::iter([request.clone(), request]);
                let stream = stub.model_stream_infer(requests).await?.into_inner();
                stream.map(|_| ()).collect::<()>().await;
                Ok(())
            };
            // Gone while the request is on its way, waits or runs.
            let _ = timeout(Duration::from_micros(u64::from(number) * 100), pin!(call)).await;
            anyhow::Ok(())
        });
        try_join_all(callers).await?;
    }
    server.until_occupancy(0, 0).await?;
    model.check().await?;
    let metrics = server.info().await?.metrics.context("metrics")?;
    let ended = (metrics.requests_succeeded, metrics.requests_failed);
    assert_eq!(ended, (2, 0));
    Ok(())
}
