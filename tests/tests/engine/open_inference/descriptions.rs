//! What the server reports about itself and its models.

use anyhow::{Context, Result};
use hangar_client::{
    inference::{
        DataType, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest,
        ModelStatistics, ModelStatisticsRequest, ServerLiveRequest, ServerMetadataRequest,
        ServerReadyRequest,
    },
    v1::ModelState,
};
use hangar_tests::{scripted::Script, server::TestServer};
use tonic::Code;

use super::{InferenceServer, Stub, asked, code_and_reason};

/// Inputs and outputs with their types, as clients of Triton's vLLM backend know them.
const INPUTS: [(&str, &str); 9] = [
    ("text_input", "BYTES"),
    ("stream", "BOOL"),
    ("sampling_parameters", "BYTES"),
    ("exclude_input_in_output", "BOOL"),
    ("return_finish_reason", "BOOL"),
    ("return_num_input_tokens", "BOOL"),
    ("return_num_output_tokens", "BOOL"),
    ("return_logprobs", "BOOL"),
    ("return_cumulative_logprob", "BOOL"),
];
const OUTPUTS: [(&str, &str); 6] = [
    ("text_output", "BYTES"),
    ("finish_reason", "BYTES"),
    ("num_input_tokens", "UINT32"),
    ("num_output_tokens", "UINT32"),
    ("logprobs", "BYTES"),
    ("cumulative_logprob", "FP32"),
];

async fn is_ready(stub: &mut Stub, name: &str, version: &str) -> Result<bool> {
    let request = ModelReadyRequest {
        name: name.into(),
        version: version.into(),
    };
    Ok(stub.model_ready(request).await?.into_inner().ready)
}

async fn statistics(stub: &mut Stub, name: &str) -> Result<Vec<ModelStatistics>> {
    let request = ModelStatisticsRequest {
        name: name.into(),
        version: String::new(),
    };
    Ok(stub
        .model_statistics(request)
        .await?
        .into_inner()
        .model_stats)
}

#[hangar_tests::test]
async fn the_server_and_its_models_are_live_and_ready() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut stub = server.stub();
    assert!(
        stub.server_live(ServerLiveRequest {})
            .await?
            .into_inner()
            .live
    );
    assert!(
        stub.server_ready(ServerReadyRequest {})
            .await?
            .into_inner()
            .ready
    );
    for (name, version, ready) in [
        ("demo", "", true),
        ("demo", "1", true),
        ("demo", "2", false),
        ("nope", "", false),
        ("", "", false),
        ("../x", "", false),
    ] {
        assert_eq!(
            is_ready(&mut stub, name, version).await?,
            ready,
            "{name} {version}"
        );
    }
    server.client.unload("demo").send().await?;
    assert!(!is_ready(&mut stub, "demo", "").await?);
    Ok(())
}

#[hangar_tests::test]
async fn the_server_says_what_it_is() -> Result<()> {
    let served = InferenceServer::start("demo").await?;
    let metadata = served
        .stub()
        .server_metadata(ServerMetadataRequest {})
        .await?;
    let metadata = metadata.into_inner();
    let info = served
        .client
        .info()
        .send()
        .await?
        .server
        .context("a server")?;
    assert_eq!(
        (metadata.name.as_str(), metadata.version),
        ("hangar", info.version)
    );
    let expected = [
        "model_repository",
        "model_configuration",
        "parameters",
        "statistics",
    ];
    assert_eq!(metadata.extensions, expected);
    Ok(())
}

#[hangar_tests::test]
async fn a_text_model_has_the_tensors_of_tritons_vllm_backend() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let request = ModelMetadataRequest {
        name: "demo".into(),
        version: String::new(),
    };
    let metadata = server.stub().model_metadata(request).await?.into_inner();
    assert_eq!(
        (metadata.name.as_str(), metadata.platform.as_str()),
        ("demo", "mistralrs")
    );
    assert_eq!(metadata.versions, ["1"]);
    let tensors = metadata.inputs.iter().chain(&metadata.outputs);
    let tensors = tensors.map(|tensor| {
        assert_eq!(tensor.shape, [1]);
        (tensor.name.as_str(), tensor.datatype.as_str())
    });
    assert_eq!(
        tensors.collect::<Vec<_>>(),
        [INPUTS.as_slice(), &OUTPUTS].concat()
    );
    Ok(())
}

#[hangar_tests::test]
async fn the_configuration_agrees_with_the_metadata() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let request = ModelConfigRequest {
        name: "demo".into(),
        version: "1".into(),
    };
    let config = server
        .stub()
        .model_config(request)
        .await?
        .into_inner()
        .config;
    let config = config.context("a configuration")?;
    assert_eq!((config.name.as_str(), config.max_batch_size), ("demo", 0));
    assert!(
        config
            .model_transaction_policy
            .context("a policy")?
            .decoupled
    );
    let type_of = |name| match name {
        "BYTES" => DataType::TypeString,
        "BOOL" => DataType::TypeBool,
        "UINT32" => DataType::TypeUint32,
        _ => DataType::TypeFp32,
    };
    let inputs = config.input.iter();
    let inputs = inputs.map(|i| (i.name.as_str(), i.data_type(), i.optional, &i.dims[..]));
    let expected = INPUTS.map(|(name, datatype)| {
        let optional = name != "text_input";
        (name, type_of(datatype), optional, [1].as_slice())
    });
    assert_eq!(inputs.collect::<Vec<_>>(), expected);
    let outputs = config.output.iter();
    let outputs = outputs.map(|o| (o.name.as_str(), o.data_type(), &o.dims[..]));
    let expected = OUTPUTS.map(|(name, datatype)| (name, type_of(datatype), [1].as_slice()));
    assert_eq!(outputs.collect::<Vec<_>>(), expected);
    Ok(())
}

#[hangar_tests::test]
async fn unknown_models_and_versions_are_not_found() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let not_found = (Code::NotFound, "MODEL_NOT_FOUND".to_owned());
    for (name, version) in [
        ("nope", ""),
        ("demo", "2"),
        ("demo", "01"),
        ("demo", "latest"),
    ] {
        let (name, version) = (name.to_owned(), version.to_owned());
        let metadata = ModelMetadataRequest {
            name: name.clone(),
            version: version.clone(),
        };
        let status = server.stub().model_metadata(metadata).await.unwrap_err();
        assert_eq!(code_and_reason(&status), not_found);
        let config = ModelConfigRequest {
            name: name.clone(),
            version: version.clone(),
        };
        let status = server.stub().model_config(config).await.unwrap_err();
        assert_eq!(code_and_reason(&status), not_found);
        let statistics = ModelStatisticsRequest {
            name: name.clone(),
            version: version.clone(),
        };
        let status = server
            .stub()
            .model_statistics(statistics)
            .await
            .unwrap_err();
        assert_eq!(code_and_reason(&status), not_found);
        let infer = ModelInferRequest {
            model_name: name,
            model_version: version,
            ..server.greedy("x", 1)
        };
        let status = server.stub().model_infer(infer).await.unwrap_err();
        assert_eq!(code_and_reason(&status), not_found);
    }
    let status = server
        .stub()
        .model_metadata(ModelMetadataRequest::default())
        .await;
    assert_eq!(
        code_and_reason(&status.unwrap_err()),
        (Code::InvalidArgument, "INVALID_FIELD".into())
    );
    Ok(())
}

#[hangar_tests::test]
async fn tensors_are_described_once_the_kind_is_known() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::gated())
        .start()
        .await?;
    let held = server.hold(ModelState::Starting).await?;
    let request = ModelMetadataRequest {
        name: "m".into(),
        version: String::new(),
    };
    let mut stub = Stub::new(server.client.transport());
    let status = stub.model_metadata(request).await.unwrap_err();
    assert_eq!(
        code_and_reason(&status),
        (Code::FailedPrecondition, "MODEL_NOT_LOADED".into())
    );
    drop(held);
    Ok(())
}

#[hangar_tests::test]
async fn statistics_count_requests_whatever_api_they_came_by() -> Result<()> {
    let server = InferenceServer::demo().await?;
    let mut stub = server.stub();
    let before = &statistics(&mut stub, "demo").await?[0];
    assert_eq!((before.inference_count, before.last_inference), (0, 0));
    stub.model_infer(server.greedy(&asked("Hello"), 2)).await?;
    server.expected(&asked("Hello"), 2).await?;
    let failing = stub
        .model_infer(server.greedy(&"word ".repeat(2000), 1))
        .await;
    assert!(failing.is_err());
    let all = statistics(&mut stub, "").await?;
    assert_eq!(all, statistics(&mut stub, "demo").await?);
    let [demo] = all.as_slice() else {
        panic!("{all:?}");
    };
    assert_eq!((demo.name.as_str(), demo.version.as_str()), ("demo", "1"));
    assert_eq!((demo.inference_count, demo.execution_count), (2, 2));
    let inference = demo.inference_stats.context("statistics")?;
    let counts = [inference.success, inference.fail, inference.cache_hit];
    assert_eq!(counts.map(|d| d.unwrap_or_default().count), [2, 1, 0]);
    let times = [inference.success, inference.fail, inference.queue];
    assert_eq!(times.map(|d| d.unwrap_or_default().ns), [0, 0, 0]);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis() as u64;
    assert!((now - 60_000..=now).contains(&demo.last_inference));
    let memory = &demo.memory_usage[0];
    assert!(
        memory.r#type == "CPU" && memory.byte_size > 1 << 20,
        "{memory:?}"
    );
    Ok(())
}
