//! One trace from the command to the worker, and nothing in it that a user said.

use std::{ops::Deref, path::Path, process::Stdio};

use anyhow::{Context, Result};
use hangar_client::v1::{
    GenerateRequest, LoadModelRequest, inference_service_client::InferenceServiceClient,
    load_model_request::Target, model_service_client::ModelServiceClient,
};
use hangar_tests::{
    fixtures::Embedding,
    server::{DEADLINE, TestServer, binary, spec},
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::{process::Command, time::timeout};
use tonic::{Request, transport::Endpoint};

use super::collector::{Collector, Trace};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A server that sends its traces to a collector.
struct TracedServer {
    server: TestServer,
    collector: Collector,
}

impl Deref for TracedServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl TracedServer {
    async fn start() -> Result<Self> {
        let collector = Collector::start().await?;
        let options = TestServer::real()
            .argument("--otlp-endpoint")
            .argument(&collector.url);
        Ok(Self {
            server: options.start().await?,
            collector,
        })
    }

    /// Runs a command of hangarctl, which sends its traces too, and gives what it printed.
    async fn hangarctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(binary("hangarctl")?)
            .args(["--server", &self.url()])
            .args(arguments)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.collector.url)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(DEADLINE, output).await??;
        let errors = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// All spans. Every process has ended by then, and has sent what it had.
    async fn end(self) -> Result<Trace> {
        assert!(self.server.terminate().await?.success());
        Ok(self.collector.spans())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("not UTF-8")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request of a caller whose trace is known.
fn traced<T>(message: T, sampled: bool) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let flags = if sampled { "01" } else { "00" };
    let context = format!("00-{TRACE}-{PARENT}-{flags}");
    request
        .metadata_mut()
        .insert("traceparent", context.parse()?);
    Ok(request)
}

#[hangar_tests::test]
async fn a_call_is_one_trace_from_the_command_to_the_worker() -> Result<()> {
    const LOAD: &str = "hangar.v1.ModelService/LoadModel";
    const GENERATE: &str = "hangar.v1.InferenceService/Generate";
    let server = TracedServer::start().await?;
    let model = server.fixtures.llama()?;
    server
        .hangarctl(&["load", "m", "--path", text(&model)?])
        .await?;
    server
        .hangarctl(&["generate", "m", "hello", "--raw", "--max-tokens", "4"])
        .await?;
    server.hangarctl(&["unload", "m"]).await?;
    let spans = server.end().await?;

    let load = spans.one("hangar-worker: worker.load")?;
    let expected = [
        "hangar-worker: worker.load".to_owned(),
        "hangar: model.load".to_owned(),
        format!("hangar: {LOAD}"),
        format!("hangarctl: {LOAD}"),
        "hangarctl: hangarctl load".to_owned(),
    ];
    assert_eq!(spans.path(load)?, expected);
    let generate = spans.one("hangar-worker: worker.generate")?;
    let expected = [
        "hangar-worker: worker.generate".to_owned(),
        "hangar: text_completion m".to_owned(),
        format!("hangar: {GENERATE}"),
        format!("hangarctl: {GENERATE}"),
        "hangarctl: hangarctl generate".to_owned(),
    ];
    assert_eq!(spans.path(generate)?, expected);
    assert_ne!(load.span.trace_id, generate.span.trace_id);

    for method in [LOAD, GENERATE] {
        let client = spans.one(&format!("hangarctl: {method}"))?;
        let server = spans.one(&format!("hangar: {method}"))?;
        assert!(client.is_kind(SpanKind::Client) && server.is_kind(SpanKind::Server));
        for span in [client, server] {
            assert_eq!(span.attribute("rpc.method"), Some(method));
            assert_eq!(span.attribute("rpc.response.status_code"), Some("OK"));
        }
    }
    for command in ["load", "generate", "unload"] {
        let root = spans.one(&format!("hangarctl: hangarctl {command}"))?;
        assert!(root.span.parent_span_id.is_empty());
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_trace_that_a_caller_began_is_carried_on() -> Result<()> {
    let server = TracedServer::start().await?;
    let request = LoadModelRequest {
        target: Some(Target::ModelId("m".into())),
        spec: Some(spec(&server.fixtures.llama()?)),
        wait: true,
        ..LoadModelRequest::default()
    };
    let channel = Endpoint::from_shared(server.url())?.connect().await?;
    ModelServiceClient::new(channel.clone())
        .load_model(traced(request, true)?)
        .await?;
    let request = GenerateRequest {
        model_id: "m".into(),
        prompt: "x".into(),
        max_tokens: 2,
        ..GenerateRequest::default()
    };
    // Its caller does not want this one recorded.
    let answer = InferenceServiceClient::new(channel)
        .generate(traced(request, false)?)
        .await?;
    let mut answer = answer.into_inner();
    while answer.message().await?.is_some() {}
    let spans = server.end().await?;
    let server = spans.one("hangar: hangar.v1.ModelService/LoadModel")?;
    assert_eq!(hex(&server.span.parent_span_id), PARENT);
    for title in [
        "hangar: hangar.v1.ModelService/LoadModel",
        "hangar: model.load",
        "hangar-worker: worker.load",
    ] {
        assert_eq!(hex(&spans.one(title)?.span.trace_id), TRACE, "{title}");
    }
    for title in [
        "hangar: hangar.v1.InferenceService/Generate",
        "hangar: text_completion m",
        "hangar-worker: worker.generate",
    ] {
        assert!(spans.one(title).is_err(), "{title} was recorded");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_generation_has_a_span_by_the_conventions_for_gen_ai() -> Result<()> {
    let server = TracedServer::start().await?;
    let model = server.fixtures.llama()?;
    server
        .hangarctl(&["load", "m", "--path", text(&model)?])
        .await?;
    let asked = ["generate", "m", "hello", "--max-tokens", "4", "--seed", "7"];
    server.hangarctl(&asked).await?;
    let refused = [
        "generate",
        "m",
        "hello",
        "--raw",
        "--max-tokens",
        "4000000000",
    ];
    assert!(server.hangarctl(&refused).await.is_err());
    let spans = server.end().await?;
    let chat = spans.one("hangar: chat m")?;
    assert!(chat.is_kind(SpanKind::Internal));
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "mistral.rs"),
        ("gen_ai.request.model", "m"),
        ("gen_ai.response.finish_reasons", "[\"length\"]"),
    ] {
        assert_eq!(chat.attribute(name), Some(value), "{name}");
    }
    for (name, value) in [
        ("gen_ai.request.max_tokens", 4),
        ("gen_ai.request.seed", 7),
        ("gen_ai.usage.output_tokens", 4),
    ] {
        assert_eq!(chat.number(name), Some(value), "{name}");
    }
    assert!(chat.number("gen_ai.usage.input_tokens") > Some(0));
    let failed = spans.one("hangar: text_completion m")?;
    assert_eq!(failed.attribute("error.type"), Some("CONTEXT_EXCEEDED"));
    assert_eq!(failed.number("gen_ai.usage.output_tokens"), None);
    Ok(())
}

#[hangar_tests::test]
async fn vectors_have_a_span_by_the_conventions_for_gen_ai() -> Result<()> {
    let server = TracedServer::start().await?;
    let model = server.fixtures.embedding(Embedding::Gemma)?;
    server
        .hangarctl(&["load", "e", "--path", text(&model)?])
        .await?;
    server
        .hangarctl(&["embed", "e", "xylophone", "hello"])
        .await?;
    let spans = server.end().await?;
    let vectors = spans.one("hangar: embeddings e")?;
    assert!(vectors.is_kind(SpanKind::Internal));
    for (name, value) in [
        ("gen_ai.operation.name", "embeddings"),
        ("gen_ai.provider.name", "mistral.rs"),
        ("gen_ai.request.model", "e"),
    ] {
        assert_eq!(vectors.attribute(name), Some(value), "{name}");
    }
    assert_eq!(
        vectors.number("gen_ai.embeddings.dimension.count"),
        Some(32)
    );
    let tokens = Some(9 + 2 + 5 + 2);
    assert_eq!(vectors.number("gen_ai.usage.input_tokens"), tokens);
    let worker = spans.one("hangar-worker: worker.embed")?;
    assert_eq!(worker.number("gen_ai.usage.input_tokens"), tokens);
    let path = spans.path(worker)?;
    assert_eq!(path[1], "hangar: embeddings e", "{path:?}");
    for span in &spans.0 {
        assert!(!format!("{span:?}").contains("xylophone"));
    }
    Ok(())
}

#[hangar_tests::test]
async fn prompts_and_answers_are_in_no_span() -> Result<()> {
    const PROMPT: &str = "xylophone-3141";
    let server = TracedServer::start().await?;
    let model = server.fixtures.llama()?;
    server
        .hangarctl(&["load", "m", "--path", text(&model)?])
        .await?;
    let asked = [
        "generate",
        "m",
        PROMPT,
        "--raw",
        "--max-tokens",
        "32",
        "--temperature",
        "0",
    ];
    let answer = server.hangarctl(&asked).await?;
    server.hangarctl(&["tokenize", "m", PROMPT]).await?;
    let answer: String = answer.chars().take(12).collect();
    assert_eq!(answer.len(), 12);
    let answer = answer.escape_debug().to_string();
    let log = server.log()?;
    let spans = server.end().await?;
    spans.one("hangar-worker: worker.generate")?;
    for span in &spans.0 {
        let all = format!("{span:?}");
        assert!(!all.contains("xylophone"), "{all}");
        assert!(!all.contains(&answer), "{all}");
    }
    assert!(!log.contains("xylophone"), "the log tells what was asked");
    Ok(())
}

#[hangar_tests::test]
async fn a_call_that_fails_is_recorded_so() -> Result<()> {
    const LOAD: &str = "hangar.v1.ModelService/LoadModel";
    let server = TracedServer::start().await?;
    let missing = server.fixtures.root().join("nothing");
    let refused = server
        .hangarctl(&["load", "m", "--path", text(&missing)?])
        .await;
    assert!(refused.is_err());
    let spans = server.end().await?;
    for service in ["hangarctl", "hangar"] {
        let span = spans.one(&format!("{service}: {LOAD}"))?;
        assert_eq!(
            span.attribute("rpc.response.status_code"),
            Some("FAILED_PRECONDITION")
        );
    }
    Ok(())
}
