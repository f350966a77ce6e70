//! The Open Inference Protocol over real sockets, with real engines, through its generated stubs.

mod answers;
mod bounds;
mod descriptions;
mod disconnects;
mod embeddings;
mod logprobs;
mod priorities;
mod repository;
mod seeds;
mod streams;
mod tensors;

use std::{collections::BTreeMap, ops::Deref, path::Path};

use anyhow::{Context, Result};
use hangar_client::{
    Transport,
    inference::{
        InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    v1::{ModelInfo, ModelMetrics, ModelSpec},
};
use hangar_tests::{
    info,
    server::{TestServer, spec},
};
use serde::Deserialize;
use tonic::{Code, Status};
use tonic_types::StatusExt;

type Stub = GrpcInferenceServiceClient<Transport>;

/// What the training script found the demo model to say.
const ANSWERS: &str = include_str!("../../../server/worker/demo/answers.json");

#[derive(Deserialize)]
struct KnownAnswer {
    prompt: String,
    answer: String,
}

/// A server and a loaded model.
struct InferenceServer {
    server: TestServer,
    stub: Stub,
    model: &'static str,
}

impl Deref for InferenceServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl InferenceServer {
    /// With the demo model, `demo`.
    async fn demo() -> Result<Self> {
        let server = Self::start("demo").await?;
        server.client.load("demo").wait().await?;
        Ok(server)
    }

    /// With the tiny Llama and a context of 16,384 tokens, `m`.
    async fn long(change: impl FnOnce(&mut ModelSpec)) -> Result<Self> {
        let server = Self::start("m").await?;
        let path = server.fixtures.long_llama()?;
        server.load(&path, change).await?;
        Ok(server)
    }

    /// With the tiny Llama and a context of 256 tokens, `m`.
    async fn tiny() -> Result<Self> {
        let server = Self::start("m").await?;
        let path = server.fixtures.llama()?;
        server.load(&path, |_| ()).await?;
        Ok(server)
    }

    /// With no model that is loaded.
    async fn start(model: &'static str) -> Result<Self> {
        let server = TestServer::real().start().await?;
        Ok(Self {
            stub: Stub::new(server.client.transport()),
            server,
            model,
        })
    }

    async fn load(&self, path: &Path, change: impl FnOnce(&mut ModelSpec)) -> Result<()> {
        let mut spec = spec(path);
        change(&mut spec);
        self.client.load(self.model).spec(spec).wait().await?;
        Ok(())
    }

    fn stub(&self) -> Stub {
        self.stub.clone()
    }

    /// A request that always gets the same answer.
    fn greedy(&self, prompt: &str, max_tokens: u32) -> ModelInferRequest {
        let sampling = format!(r#"{{"temperature": 0, "max_tokens": {max_tokens}}}"#);
        ModelInferRequest {
            model_name: self.model.into(),
            inputs: vec![
                text("text_input", prompt),
                text("sampling_parameters", &sampling),
                flag("exclude_input_in_output", true),
            ],
            ..ModelInferRequest::default()
        }
    }

    /// The same answer from the server's own API.
    async fn expected(&self, prompt: &str, max_tokens: u32) -> Result<String> {
        let request = self.client.generate(self.model).prompt(prompt);
        let answer = request.temperature(0.0).max_tokens(max_tokens);
        Ok(answer.text().await?.text)
    }

    async fn info(&self) -> Result<ModelInfo> {
        info::model(&self.client, self.model).await
    }

    /// Process of the model's worker.
    async fn worker(&self) -> Result<u32> {
        info::worker(&self.client, self.model).await
    }

    async fn until_occupancy(&self, in_flight: u32, queued: u32) -> Result<()> {
        info::until_occupancy(&self.client, self.model, in_flight, queued).await
    }

    /// Waits until so many requests were counted as cancelled, and gives the numbers by then.
    async fn until_cancelled(&self, requests: u64) -> Result<ModelMetrics> {
        let cancelled = |model: &ModelInfo| {
            let metrics = model.metrics.as_ref();
            metrics.is_some_and(|metrics| metrics.requests_cancelled == requests)
        };
        let model = info::when(&self.client, self.model, cancelled).await?;
        model.metrics.context("metrics")
    }
}

/// What the demo model was taught.
fn known_answers() -> Result<Vec<KnownAnswer>> {
    Ok(serde_json::from_str(ANSWERS)?)
}

/// A question as the demo model's chat template puts it.
fn asked(question: &str) -> String {
    format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
}

fn text(name: &str, value: &str) -> InferInputTensor {
    let contents = InferTensorContents {
        bytes_contents: vec![value.to_owned().into()],
        ..InferTensorContents::default()
    };
    input(name, "BYTES", contents)
}

fn flag(name: &str, value: bool) -> InferInputTensor {
    let contents = InferTensorContents {
        bool_contents: vec![value],
        ..InferTensorContents::default()
    };
    input(name, "BOOL", contents)
}

fn input(name: &str, datatype: &str, contents: InferTensorContents) -> InferInputTensor {
    InferInputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![1],
        contents: Some(contents),
        ..InferInputTensor::default()
    }
}

fn output(name: &str) -> InferRequestedOutputTensor {
    InferRequestedOutputTensor {
        name: name.into(),
        ..InferRequestedOutputTensor::default()
    }
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

fn with<const N: usize>(
    mut request: ModelInferRequest,
    inputs: [InferInputTensor; N],
) -> ModelInferRequest {
    request.inputs.extend(inputs);
    request
}

/// The same request with raw tensors.
fn raw(mut request: ModelInferRequest) -> ModelInferRequest {
    for input in &mut request.inputs {
        let contents = input.contents.take().unwrap_or_default();
        let mut raw = Vec::new();
        for bytes in contents.bytes_contents {
            raw.extend((bytes.len() as u32).to_le_bytes());
            raw.extend(bytes);
        }
        raw.extend(contents.bool_contents.into_iter().map(u8::from));
        request.raw_input_contents.push(raw.into());
    }
    request
}

/// The outputs of a response by name, each as raw bytes without the length of a text.
fn outputs(response: &ModelInferResponse) -> BTreeMap<String, Vec<u8>> {
    let bytes = |n: usize| match &response.outputs[n].contents {
        Some(contents) => {
            assert!(response.raw_output_contents.is_empty());
            let texts = contents.bytes_contents.iter().flatten().copied();
            let numbers = contents.uint_contents.iter();
            let floats = contents.fp32_contents.iter();
            texts
                .chain(numbers.flat_map(|number| number.to_le_bytes()))
                .chain(floats.flat_map(|number| number.to_le_bytes()))
                .collect()
        }
        None => {
            let raw = &response.raw_output_contents[n];
            match response.outputs[n].datatype.as_str() {
                "BYTES" => {
                    assert_eq!(raw[..4], (raw.len() as u32 - 4).to_le_bytes());
                    raw[4..].to_vec()
                }
                _ => raw.to_vec(),
            }
        }
    };
    let names = response.outputs.iter().enumerate();
    names
        .map(|(n, output)| {
            assert_eq!(output.shape, [1], "{output:?}");
            (output.name.clone(), bytes(n))
        })
        .collect()
}

/// A text among the outputs.
fn text_of(response: &ModelInferResponse, name: &str) -> Option<String> {
    let bytes = outputs(response).remove(name)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A number among the outputs.
fn number_of(response: &ModelInferResponse, name: &str) -> Option<u32> {
    let bytes = outputs(response).remove(name)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Code and reason of an error.
fn code_and_reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info();
    let info = info.filter(|info| info.domain == "hangar.v1");
    let reason = info.map(|info| info.reason);
    (status.code(), reason.unwrap_or_default())
}

/// The fields that an error names.
fn fields(status: &Status) -> Vec<String> {
    let request = status.get_details_bad_request();
    let violations = request.map(|request| request.field_violations);
    let violations = violations.into_iter().flatten();
    violations.map(|violation| violation.field).collect()
}
