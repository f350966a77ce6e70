//! Embedding models.

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use hangar_client::inference::{
    DataType, InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelStatisticsRequest, infer_parameter::ParameterChoice,
    model_infer_request::InferInputTensor,
};
use hangar_tests::fixtures::Embedding;
use tonic::Code;

use super::{InferenceServer, code_and_reason, fields, flag, output, parameter, raw, text};

/// With an embedding model, `m`.
async fn served(kind: Embedding) -> Result<InferenceServer> {
    let server = InferenceServer::start("m").await?;
    let path = server.fixtures.embedding(kind)?;
    server.load(&path, |_| ()).await?;
    Ok(server)
}

fn texts(texts: &[&str]) -> InferInputTensor {
    let contents = InferTensorContents {
        bytes_contents: texts.iter().map(|t| t.to_string().into()).collect(),
        ..InferTensorContents::default()
    };
    InferInputTensor {
        shape: vec![texts.len() as i64],
        contents: Some(contents),
        ..text("text_input", "")
    }
}

fn ask(inputs: Vec<InferInputTensor>) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        id: "7".into(),
        inputs,
        ..ModelInferRequest::default()
    }
}

/// The vectors of a response.
fn vectors(response: &ModelInferResponse) -> Result<Vec<Vec<f32>>> {
    assert_eq!(response.outputs.len(), 1);
    let output = &response.outputs[0];
    assert_eq!(
        (output.name.as_str(), output.datatype.as_str()),
        ("embedding", "FP32")
    );
    let [count, size] = output.shape[..] else {
        anyhow::bail!("{:?}", output.shape);
    };
    let values: Vec<f32> = match &output.contents {
        Some(contents) => contents.fp32_contents.clone(),
        None => {
            let raw = response.raw_output_contents[0].chunks_exact(4);
            raw.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                .collect()
        }
    };
    let vectors: Vec<_> = values.chunks(size as usize).map(<[f32]>::to_vec).collect();
    assert_eq!(vectors.len() as i64, count);
    Ok(vectors)
}

#[hangar_tests::test]
async fn an_embedding_model_is_described_as_it_is_used() -> Result<()> {
    for kind in Embedding::ALL {
        let server = served(kind).await?;
        let mut stub = server.stub();
        let size = kind.size() as i64;
        let (name, version) = ("m".to_owned(), String::new());
        let request = ModelMetadataRequest { name, version };
        let metadata = stub.model_metadata(request).await?.into_inner();
        let reported =
            |tensor: &hangar_client::inference::model_metadata_response::TensorMetadata| {
                let (name, datatype) = (tensor.name.clone(), tensor.datatype.clone());
                (name, datatype, tensor.shape.clone())
            };
        let inputs: Vec<_> = metadata.inputs.iter().map(reported).collect();
        let outputs: Vec<_> = metadata.outputs.iter().map(reported).collect();
        assert_eq!(inputs, [("text_input".into(), "BYTES".into(), vec![-1])]);
        let vectors = ("embedding".into(), "FP32".into(), vec![-1, size]);
        assert_eq!(outputs, [vectors]);
        let (name, version) = ("m".to_owned(), String::new());
        let request = ModelConfigRequest { name, version };
        let config = stub.model_config(request).await?.into_inner().config;
        let config = config.context("a configuration")?;
        assert_eq!(config.max_batch_size, 0);
        assert_eq!(config.input[0].data_type(), DataType::TypeString);
        assert_eq!(config.input[0].dims, [-1]);
        assert_eq!(config.output[0].data_type(), DataType::TypeFp32);
        assert_eq!(config.output[0].dims, [-1, size]);
        let policy = config.model_transaction_policy.unwrap_or_default();
        assert!(!policy.decoupled);
    }
    Ok(())
}

#[hangar_tests::test]
async fn vectors_are_those_of_the_servers_own_api() -> Result<()> {
    let server = served(Embedding::Gemma).await?;
    let mut stub = server.stub();
    let wanted = ["one", "two and more", "\u{e9}"];
    let own = server.client.embed("m").inputs(wanted).send().await?;
    let own: Vec<_> = own.embeddings.into_iter().map(|e| e.values).collect();
    let typed = ask(vec![texts(&wanted)]);
    let mut column = typed.clone();
    column.inputs[0].shape.push(1);
    let mut named = typed.clone();
    named.outputs.push(output("embedding"));
    for request in [
        typed.clone(),
        raw(typed),
        column.clone(),
        raw(column),
        named,
    ] {
        let is_raw = !request.raw_input_contents.is_empty();
        let response = stub.model_infer(request).await?.into_inner();
        assert_eq!(
            (response.id.as_str(), response.model_name.as_str()),
            ("7", "m")
        );
        assert_eq!(response.model_version, "1");
        assert_eq!(!response.raw_output_contents.is_empty(), is_raw);
        assert_eq!(vectors(&response)?, own);
    }
    let request = ModelStatisticsRequest {
        name: "m".into(),
        version: String::new(),
    };
    let statistics = stub.model_statistics(request).await?.into_inner();
    assert_eq!(statistics.model_stats[0].inference_count, 6);
    Ok(())
}

#[hangar_tests::test]
async fn a_stream_gives_one_response_to_each_request() -> Result<()> {
    let server = served(Embedding::Qwen3).await?;
    let mut plain = ask(vec![texts(&["a", "b"])]);
    plain.id = "plain".into();
    let mut ended = plain.clone();
    ended.id = "ended".into();
    let name = "triton_enable_empty_final_response".to_owned();
    let yes = parameter(ParameterChoice::BoolParam(true));
    ended.parameters.insert(name, yes);
    let mut wrong = ask(vec![texts(&[""])]);
    wrong.id = "wrong".into();
    let requests = stream::iter([plain, ended, wrong]);
    let mut responses = server
        .stub()
        .model_stream_infer(requests)
        .await?
        .into_inner();
    let mut seen = Vec::new();
    while let Some(response) = responses.next().await {
        let response = response?;
        let infer = response.infer_response.context("a response")?;
        let last = infer.parameters["triton_final_response"].clone();
        let last = last.parameter_choice == Some(ParameterChoice::BoolParam(true));
        let failed = !response.error_message.is_empty();
        seen.push((infer.id.clone(), infer.outputs.len(), last, failed));
    }
    seen.sort();
    let seen: Vec<_> = seen
        .iter()
        .map(|(id, n, last, f)| (id.as_str(), *n, *last, *f))
        .collect();
    let expected = [
        ("ended", 0, true, false),
        ("ended", 1, false, false),
        ("plain", 1, true, false),
        ("wrong", 0, true, true),
    ];
    assert_eq!(seen, expected);
    Ok(())
}

/// Makes sure that each of these requests is refused, with this field.
async fn assert_refused<const N: usize>(requests: [(ModelInferRequest, &str); N]) -> Result<()> {
    let server = served(Embedding::Qwen3).await?;
    let mut stub = server.stub();
    for (request, field) in requests {
        let shown = format!("{field} {:?}", request.inputs.first().map(|i| &i.shape));
        let status = stub.model_infer(request).await.err().context(shown)?;
        assert_eq!(
            code_and_reason(&status),
            (Code::InvalidArgument, "INVALID_FIELD".into())
        );
        assert_eq!(fields(&status), [field], "{status:?}");
    }
    stub.model_infer(ask(vec![texts(&["a"])])).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_tensor_of_another_shape_or_type_is_refused_by_its_field() -> Result<()> {
    let shape = |shape: &[i64]| {
        ask(vec![InferInputTensor {
            shape: shape.to_vec(),
            ..texts(&["a", "b"])
        }])
    };
    let mut number = texts(&["a"]);
    number.datatype = "FP32".into();
    assert_refused([
        (shape(&[]), "inputs[0].shape"),
        (shape(&[0]), "inputs[0].shape"),
        (shape(&[-1]), "inputs[0].shape"),
        (shape(&[1, 2]), "inputs[0].shape"),
        (shape(&[i64::MAX]), "inputs[0].shape"),
        (shape(&[3]), "inputs[0].contents"),
        (ask(vec![number]), "inputs[0].datatype"),
    ])
    .await
}

#[hangar_tests::test]
async fn tensors_that_are_missing_unknown_or_too_many_are_refused_by_name() -> Result<()> {
    let mut unknown = ask(vec![texts(&["a"])]);
    unknown.outputs.push(output("text_output"));
    let mut sampled = ask(vec![texts(&["a"])]);
    let heat = parameter(ParameterChoice::DoubleParam(0.5));
    sampled.parameters.insert("temperature".into(), heat);
    let two = vec![texts(&["a"]), texts(&["b"])];
    let flagged = vec![texts(&["a"]), flag("stream", true)];
    assert_refused([
        (ask(vec![]), "inputs"),
        (ask(two), "inputs"),
        (ask(flagged), "inputs[1].name"),
        (ask(vec![text("prompt", "a")]), "inputs[0].name"),
        (unknown, "outputs[0].name"),
        (sampled, "parameters"),
    ])
    .await
}

#[hangar_tests::test]
async fn contents_that_are_no_texts_or_too_many_are_refused_by_their_field() -> Result<()> {
    let mut both = raw(ask(vec![texts(&["a"])]));
    both.inputs[0].contents = texts(&["a"]).contents;
    let mut short = raw(ask(vec![texts(&["abc"])]));
    short.raw_input_contents[0].truncate(6);
    let mut bad = ask(vec![texts(&["a"])]);
    let contents = bad.inputs[0].contents.as_mut().context("contents")?;
    contents.bytes_contents[0] = vec![0xff].into();
    let many = vec!["a"; 1025];
    assert_refused([
        (both, "inputs[0].contents"),
        (short, "raw_input_contents[0]"),
        (bad, "inputs"),
        (ask(vec![texts(&["a", ""])]), "inputs[1]"),
        (ask(vec![texts(&many)]), "inputs"),
    ])
    .await
}

#[hangar_tests::test]
async fn a_text_that_is_longer_than_the_context_is_refused() -> Result<()> {
    let server = served(Embedding::Qwen3).await?;
    let mut stub = server.stub();
    let long = "x".repeat(300);
    let request = ask(vec![texts(&["a", &long])]);
    let status = stub.model_infer(request).await.err().context("an error")?;
    assert_eq!(
        code_and_reason(&status),
        (Code::InvalidArgument, "CONTEXT_EXCEEDED".into())
    );
    stub.model_infer(ask(vec![texts(&["a"])])).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_text_model_gives_no_vectors_over_open_inference() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut request = ModelInferRequest {
        model_name: "demo".into(),
        ..ask(vec![texts(&["a"])])
    };
    request.outputs.push(output("embedding"));
    let status = server.stub().model_infer(request).await;
    let status = status.err().context("an error")?;
    let expected = (Code::FailedPrecondition, "UNSUPPORTED_BY_MODEL".to_owned());
    assert_eq!(code_and_reason(&status), expected);
    Ok(())
}
