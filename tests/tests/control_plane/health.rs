//! Health over gRPC and HTTP, as probes and load balancers ask for it.

use ServingStatus::{NotServing, ServiceUnknown, Serving};
use anyhow::{Context, Result};
use hangar_client::v1::ModelState;
use hangar_tests::{
    background::Background,
    http,
    scripted::{GenerateScript, LoadScript, Script},
    server::{DEADLINE, TestServer},
};
use rustix::process::Signal;
use tokio::time::timeout;
use tonic::{
    Code, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_types::StatusExt;

/// Services that are there from the start.
const SERVICES: [&str; 7] = [
    "",
    "liveness",
    "readiness",
    "startup",
    "hangar.v1.ModelService",
    "hangar.v1.InferenceService",
    "inference.GRPCInferenceService",
];

type Health = HealthClient<Channel>;

fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

/// Health on the main port and on the ops port.
async fn ports(server: &TestServer) -> Result<[Health; 2]> {
    let ops = format!("http://{}", server.ops_listen());
    Ok([connect(server.url()).await?, connect(ops).await?])
}

async fn connect(url: String) -> Result<Health> {
    let channel = Endpoint::from_shared(url)?.connect().await?;
    Ok(HealthClient::new(channel))
}

async fn check(health: &Health, service: &str) -> Result<ServingStatus, tonic::Status> {
    Ok(health
        .clone()
        .check(ask(service))
        .await?
        .into_inner()
        .status())
}

async fn watch(health: &Health, service: &str) -> Result<Streaming<HealthCheckResponse>> {
    Ok(health.clone().watch(ask(service)).await?.into_inner())
}

/// The next status, or nothing when the stream ended well.
async fn next(stream: &mut Streaming<HealthCheckResponse>) -> Result<Option<ServingStatus>> {
    let message = timeout(DEADLINE, stream.message()).await;
    let message = message.context("the health watch is silent")??;
    Ok(message.map(|response| response.status()))
}

fn gated() -> Script {
    Script {
        load: LoadScript {
            gate: Some("load".into()),
            ..LoadScript::default()
        },
        generate: GenerateScript {
            gate: Some("token".into()),
            ..GenerateScript::default()
        },
        ..Script::default()
    }
}

#[hangar_tests::test]
async fn a_server_serves_on_both_ports() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    for health in ports(&server).await? {
        for service in SERVICES {
            assert_eq!(check(&health, service).await?, Serving, "{service:?}");
            let mut stream = watch(&health, service).await?;
            assert_eq!(next(&mut stream).await?, Some(Serving), "{service:?}");
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_error_for_an_unknown_service_lists_the_known_ones() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    for n in 0..100 {
        let id = format!("{}{n:03}", "x".repeat(120));
        server
            .client
            .create_model(&id, server.spec())
            .send()
            .await?;
    }
    for health in ports(&server).await? {
        let unknown = check(&health, "model/nobody")
            .await
            .err()
            .context("known")?;
        assert_eq!(unknown.code(), Code::NotFound);
        let message = unknown.message();
        for name in SERVICES.iter().filter(|name| !name.is_empty()) {
            assert!(message.contains(name), "{name}: {message}");
        }
        let model = format!("model/{}000", "x".repeat(120));
        assert!(
            message.contains(&model) && message.ends_with("and more"),
            "{message}"
        );
        assert!(message.len() < 2048, "{message}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_unknown_service_is_not_found_and_can_be_watched_until_it_is_known() -> Result<()> {
    let server = TestServer::scripted().script(&gated()).start().await?;
    let gate = server.gate("load")?;
    let mut streams = Vec::new();
    for health in ports(&server).await? {
        for service in [
            "model/m",
            "model/other",
            "model/../x",
            "no.such.Service",
            "LIVENESS",
        ] {
            let Err(status) = check(&health, service).await else {
                anyhow::bail!("{service} is known")
            };
            assert_eq!(status.code(), Code::NotFound);
            let details = status.get_error_details();
            let resource = details.resource_info().context("no ResourceInfo")?;
            assert_eq!(resource.resource_name, service);
        }
        let mut stream = watch(&health, "model/m").await?;
        assert_eq!(next(&mut stream).await?, Some(ServiceUnknown));
        streams.push(stream);
    }
    server.load_m().send().await?;
    for stream in &mut streams {
        assert_eq!(next(stream).await?, Some(NotServing));
    }
    gate.step(1)?;
    for stream in &mut streams {
        assert_eq!(next(stream).await?, Some(Serving));
    }
    server.client.unload("m").send().await?;
    for stream in &mut streams {
        assert_eq!(next(stream).await?, Some(NotServing));
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_model_serves_from_ready_until_it_drains_or_dies() -> Result<()> {
    let server = TestServer::scripted().script(&gated()).start().await?;
    let [health, _] = ports(&server).await?;
    let gate = server.gate("load")?;
    let mut transitions = server.follow("m").await?;
    server.load_m().send().await?;
    transitions.until(ModelState::Loading).await?;
    assert_eq!(check(&health, "model/m").await?, NotServing);
    gate.step(1)?;
    transitions.until(ModelState::Ready).await?;
    assert_eq!(check(&health, "model/m").await?, Serving);

    let _token = server.gate("token")?;
    let mut stream = watch(&health, "model/m").await?;
    assert_eq!(next(&mut stream).await?, Some(Serving));
    let _answer = server.client.generate("m").prompt("x").stream().await?;
    let unload = Background::start(server.client.unload("m").send());
    transitions.until(ModelState::Draining).await?;
    assert_eq!(next(&mut stream).await?, Some(NotServing));
    // The server as a whole is none the worse for it.
    assert_eq!(check(&health, "").await?, Serving);
    server.client.unload("m").force().send().await?;
    unload.end().await??;

    gate.open()?;
    let pid = server.ready().await?.worker_pid;
    assert_eq!(next(&mut stream).await?, Some(Serving));
    hangar_tests::processes::signal(pid, Signal::KILL)?;
    assert_eq!(next(&mut stream).await?, Some(NotServing));
    assert_eq!(check(&health, "readiness").await?, Serving);
    Ok(())
}

#[hangar_tests::test]
async fn shutdown_is_reported_and_ends_watches_cleanly() -> Result<()> {
    let server = TestServer::scripted().script(&gated()).start().await?;
    let load = server.gate("load")?;
    load.open()?;
    server.ready().await?;
    let token = server.gate("token")?;
    let mut answer = server
        .client
        .generate("m")
        .prompt("x")
        .max_tokens(2)
        .stream()
        .await?;
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for health in ports(&server).await? {
        for service in ["", "readiness", "hangar.v1.ModelService"] {
            let mut stream = watch(&health, service).await?;
            assert_eq!(next(&mut stream).await?, Some(Serving));
            known.push(stream);
        }
        let mut stream = watch(&health, "model/unknown").await?;
        assert_eq!(next(&mut stream).await?, Some(ServiceUnknown));
        unknown.push(stream);
    }
    server.signal(Signal::TERM)?;
    for stream in &mut known {
        assert_eq!(next(stream).await?, Some(NotServing));
    }
    for stream in known.iter_mut().chain(&mut unknown) {
        assert_eq!(next(stream).await?, None);
    }
    // An answer is still under way; meanwhile the ops port says how it is.
    let ops = server.ops_listen();
    assert_eq!(http::get(ops, "/readyz").await?.status, 503);
    assert_eq!(http::get(ops, "/livez").await?.status, 200);
    let ops = connect(format!("http://{ops}")).await?;
    assert_eq!(check(&ops, "readiness").await?, NotServing);
    assert_eq!(check(&ops, "liveness").await?, Serving);
    token.open()?;
    while answer.next().await.transpose()?.is_some() {}
    assert!(server.ended(DEADLINE).await?.success());
    Ok(())
}

#[hangar_tests::test]
async fn probes_and_metrics_are_there_over_plain_http() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let ops = server.ops_listen();
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = http::get(ops, path).await?;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "ok\n"),
            "{path}"
        );
    }
    let metrics = hangar_tests::metrics::Metrics::of(ops).await?;
    assert_eq!(
        metrics
            .value("hangar_watch_subscribers", &[])
            .unwrap_or(0.0),
        0.0
    );
    assert_eq!(http::get(ops, "/nothing").await?.status, 404);
    // The main port speaks gRPC only.
    assert!(http::get(server.listen(), "/livez").await.is_err());
    Ok(())
}

#[hangar_tests::test]
async fn status_calls_answer_while_models_load() -> Result<()> {
    let server = TestServer::scripted()
        .script(&gated())
        .argument("--max-concurrent-loads")
        .argument("1")
        .start()
        .await?;
    let gate = server.gate("load")?;
    let mut transitions = server.follow("m").await?;
    let load = Background::start(server.load_m().wait());
    transitions.until(ModelState::Loading).await?;
    let waiting = server.fixtures.scripted("waiting", &Script::default())?;
    let spec = hangar_tests::server::spec(&waiting);
    server.client.load("waiting").spec(spec).send().await?;

    // The load is held at the gate: what answers now does not wait for it.
    let info = server.client.info().send().await?;
    let states: Vec<_> = info
        .models
        .iter()
        .filter_map(|model| model.status.as_ref())
        .collect();
    assert_eq!(states[0].state(), ModelState::Loading);
    assert_eq!(states[1].state(), ModelState::Pending);
    for health in ports(&server).await? {
        assert_eq!(check(&health, "").await?, Serving);
        assert_eq!(check(&health, "model/m").await?, NotServing);
    }
    assert_eq!(http::get(server.ops_listen(), "/readyz").await?.status, 200);
    assert_eq!(
        transitions.current().map(|status| status.state()),
        Some(ModelState::Loading)
    );

    gate.step(1)?;
    load.end().await??;
    let mut waited = server.follow("waiting").await?;
    waited.until(ModelState::Ready).await?;
    Ok(())
}
