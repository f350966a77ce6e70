//! Specs that are refused.

use anyhow::Result;
use hangar_client::{
    Error,
    v1::{
        DemoSource, ErrorReason, GenerationDefaults, LoadModelRequest, ModelFormat, ModelKind,
        ModelSource, ModelSpec, RestartPolicy, Sampling, load_model_request::Target,
        model_source::Source,
    },
};
use hangar_tests::refusals::{refusal, wrong_fields};
use prost_types::Duration;
use tonic::Code;

use super::HealthyServer;

fn demo() -> ModelSpec {
    ModelSpec {
        source: Some(ModelSource {
            source: Some(Source::Demo(DemoSource {})),
        }),
        ..ModelSpec::default()
    }
}

async fn load(server: &HealthyServer, spec: ModelSpec) -> Result<(), Error> {
    server.client.load("m").spec(spec).send().await.map(|_| ())
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn wrong_everywhere() -> ModelSpec {
    ModelSpec {
        source: Some(ModelSource {
            source: Some(Source::Path("m".into())),
        }),
        display_name: "x".repeat(257),
        description: "x".repeat(4097),
        provider: "x".repeat(257),
        languages: vec![String::new()],
        capabilities: vec!["x".into(); 65],
        labels: [("x".repeat(64), String::new())].into(),
        kind: 99,
        format: 99,
        device: "tpu".into(),
        dtype: 99,
        max_concurrency: 1025,
        max_queue: Some(100_001),
        generation_defaults: Some(GenerationDefaults {
            sampling: Some(Sampling {
                temperature: Some(f32::NAN),
                ..Sampling::default()
            }),
            max_tokens: 0,
            stop: vec![String::new()],
        }),
        restart_policy: Some(RestartPolicy {
            mode: 99,
            max_attempts: 1001,
            initial_backoff: seconds(-1),
            max_backoff: seconds(i64::MAX),
            stable_period: seconds(0),
        }),
        ..ModelSpec::default()
    }
}

#[hangar_tests::test]
async fn every_violation_of_a_request_and_its_spec_is_reported_at_once() -> Result<()> {
    let server = HealthyServer::new().await?;
    let request = LoadModelRequest {
        target: Some(Target::ModelId("a//b".into())),
        spec: Some(wrong_everywhere()),
        timeout: seconds(-1),
        request_id: "x".repeat(129),
        ..LoadModelRequest::default()
    };
    let answer = server.client.model_service().load_model(request).await;
    let answer = answer.map_err(|status| Error::from_answer(&server.client, status));
    let mut fields = wrong_fields(answer);
    fields.sort();
    let mut expected = [
        "model_id",
        "request_id",
        "timeout",
        "spec.capabilities",
        "spec.description",
        "spec.device",
        "spec.display_name",
        "spec.dtype",
        "spec.format",
        "spec.generation_defaults.sampling.temperature",
        "spec.generation_defaults.stop[0]",
        "spec.kind",
        "spec.labels",
        "spec.languages",
        "spec.max_concurrency",
        "spec.max_queue",
        "spec.provider",
        "spec.restart_policy.initial_backoff",
        "spec.restart_policy.max_attempts",
        "spec.restart_policy.max_backoff",
        "spec.restart_policy.mode",
        "spec.restart_policy.stable_period",
        "spec.source.path",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn a_spec_has_a_source() -> Result<()> {
    let server = HealthyServer::new().await?;
    let answer = load(&server, ModelSpec::default()).await;
    assert_eq!(wrong_fields(answer), ["spec.source"]);
    Ok(())
}

#[hangar_tests::test]
async fn fields_of_later_versions_are_refused_by_name() -> Result<()> {
    let server = HealthyServer::new().await?;
    let change = |change: fn(&mut ModelSpec)| {
        let mut spec = demo();
        change(&mut spec);
        spec
    };
    let later = [
        ("spec.kind", change(|s| s.set_kind(ModelKind::Image))),
        ("spec.format", change(|s| s.set_format(ModelFormat::Uqff))),
    ];
    for (field, spec) in later {
        let refusal = refusal(
            load(&server, spec).await,
            Code::Unimplemented,
            ErrorReason::NotImplemented,
        );
        assert_eq!(refusal.details().metadata["field"], field);
    }
    let unknown = server.client.info().model("m").send().await;
    refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    Ok(())
}

#[hangar_tests::test]
async fn a_format_other_than_that_of_the_files_is_refused() -> Result<()> {
    let server = HealthyServer::new().await?;
    let mut spec = hangar_tests::server::spec(&server.fixtures.llama()?);
    spec.set_format(ModelFormat::Gguf);
    let answer = server.client.load("m").spec(spec).wait().await;
    let refusal = refusal(answer, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    assert!(refusal.message().contains("GGUF"), "{refusal}");
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn a_context_longer_than_the_models_is_refused() -> Result<()> {
    let server = HealthyServer::new().await?;
    for (id, context_length) in [("a", 257), ("b", u32::MAX)] {
        let mut spec = hangar_tests::server::spec(&server.fixtures.llama()?);
        spec.context_length = context_length;
        let answer = server.client.load(id).spec(spec).wait().await;
        let refusal = refusal(answer, Code::FailedPrecondition, ErrorReason::ModelUnusable);
        assert!(refusal.message().contains("256"), "{refusal}");
    }
    server.is_unharmed().await
}
