//! `/metrics`, as Prometheus reads it.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelState};
use hangar_tests::{
    failpoints::Failpoints,
    fixtures::Fixtures,
    metrics::Metrics,
    refusals::refusal,
    scripted::{GenerateScript, LoadKind, LoadScript, Script},
    server::{DEADLINE, TestServer, spec},
};
use tokio::time::{interval, timeout};
use tonic::Code;

const CALLS: &str = "rpc_server_call_duration_seconds_count";
const GENERATE: &str = "hangar.v1.InferenceService/Generate";
const WATCH: &str = "hangar.v1.ModelService/WatchStatus";
const M: (&str, &str) = ("model", "m");

/// Waits until the metrics are such as no event shows.
async fn metrics_when(server: &TestServer, is_so: impl Fn(&Metrics) -> bool) -> Result<Metrics> {
    let mut ticks = interval(Duration::from_millis(20));
    let check = async {
        loop {
            ticks.tick().await;
            let metrics = Metrics::of(server.ops_listen()).await?;
            if is_so(&metrics) {
                return anyhow::Ok(metrics);
            }
        }
    };
    timeout(DEADLINE, check)
        .await
        .context("the metrics are not so")?
}

/// Calls of a method that ended with a status.
fn calls(metrics: &Metrics, method: &str, status: &str) -> f64 {
    let labels = [("rpc_method", method), ("rpc_response_status_code", status)];
    metrics.value(CALLS, &labels).unwrap_or(0.0)
}

fn state(metrics: &Metrics, state: &str) -> Option<f64> {
    metrics.value("hangar_model_state", &[M, ("state", state)])
}

#[hangar_tests::test]
async fn an_answer_that_is_dropped_is_counted_as_cancelled() -> Result<()> {
    let generate = GenerateScript {
        gate: Some("token".into()),
        ..GenerateScript::default()
    };
    let script = Script {
        generate,
        ..Script::default()
    };
    let server = TestServer::scripted().script(&script).start().await?;
    let gate = server.gate("token")?;
    server.ready().await?;
    let mut dropped = server.client.generate("m").prompt("x").stream().await?;
    gate.step(1)?;
    dropped.next().await.context("no token")??;
    let metrics = Metrics::of(server.ops_listen()).await?;
    assert_eq!(calls(&metrics, GENERATE, "CANCELLED"), 0.0);
    drop(dropped);
    let cancelled = |m: &Metrics| calls(m, GENERATE, "CANCELLED") == 1.0;
    metrics_when(&server, cancelled).await?;

    gate.open()?;
    let answer = server.client.generate("m").prompt("x").max_tokens(2);
    answer.text().await?;
    let answered = |m: &Metrics| calls(m, GENERATE, "OK") == 1.0;
    let metrics = metrics_when(&server, answered).await?;
    assert_eq!(calls(&metrics, GENERATE, "CANCELLED"), 1.0);
    Ok(())
}

#[hangar_tests::test]
async fn a_watch_is_counted_while_it_runs_and_as_cancelled_once_it_is_dropped() -> Result<()> {
    let server = TestServer::scripted().start().await?;
    let mut watch = server.client.watch().stream();
    watch.next().await.context("no snapshot")??;
    let watched = |m: &Metrics| m.value("hangar_watch_subscribers", &[]) == Some(1.0);
    metrics_when(&server, watched).await?;
    drop(watch);
    let unwatched = |m: &Metrics| m.value("hangar_watch_subscribers", &[]) == Some(0.0);
    let ended = |m: &Metrics| calls(m, WATCH, "CANCELLED") == 1.0 && unwatched(m);
    metrics_when(&server, ended).await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_refused_call_is_counted_with_its_code() -> Result<()> {
    let server = TestServer::scripted().start().await?;
    let refused = server.client.generate("nope").prompt("x").text().await;
    assert!(refused.is_err());
    let metrics = Metrics::of(server.ops_listen()).await?;
    assert_eq!(calls(&metrics, GENERATE, "NOT_FOUND"), 1.0);
    Ok(())
}

/// Makes sure that the model is in this state, in no other, and that every state is shown.
fn assert_only_state(metrics: &Metrics, name: &str) {
    assert_eq!(state(metrics, name), Some(1.0), "{name}");
    let sum = metrics.value("hangar_model_state", &[M]);
    assert_eq!(sum, Some(1.0), "one state");
    // All but the one for what is not said.
    let states = (1..).map_while(|state| ModelState::try_from(state).ok());
    let shown = metrics.matching("hangar_model_state", &[M]).len();
    assert_eq!(shown, states.count());
}

#[hangar_tests::test]
async fn metrics_of_a_model_come_and_go_with_its_worker() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let before = Metrics::of(server.ops_listen()).await?;
    assert!(before.matching("hangar_model_state", &[M]).is_empty());

    let load = client.load("m").spec(spec(&fixtures.llama()?));
    load.wait().await?;
    let metrics = metrics_when(&server, |m| state(m, "ready") == Some(1.0)).await?;
    assert_only_state(&metrics, "ready");
    let host = metrics.value("hangar_model_memory_bytes", &[M, ("type", "host")]);
    assert!(host.is_some_and(|bytes| bytes > 1e6), "{host:?}");
    let load = "hangar_model_load_duration_seconds_count";
    for phase in ["pending", "starting", "loading", "warming", "total"] {
        let labels = [M, ("phase", phase), ("outcome", "succeeded")];
        assert_eq!(metrics.value(load, &labels), Some(1.0), "{phase}");
    }

    client.unload("m").send().await?;
    let metrics = metrics_when(&server, |m| state(m, "unloaded") == Some(1.0)).await?;
    assert_only_state(&metrics, "unloaded");
    let memory = metrics.matching("hangar_model_memory_bytes", &[M]);
    assert!(memory.is_empty(), "{memory:?}");
    assert_eq!(metrics.value("hangar_model_in_flight", &[M]), Some(0.0));
    assert_eq!(metrics.value("hangar_model_queue_depth", &[M]), Some(0.0));
    let unload = "hangar_model_unload_duration_seconds_count";
    assert_eq!(metrics.value(unload, &[M]), Some(1.0));
    Ok(())
}

#[hangar_tests::test]
async fn requests_are_counted_while_they_run_and_timed_once_they_are_answered() -> Result<()> {
    let server = TestServer::long(|_| ()).await?;
    let running = server.client.generate("m").prompt("x").max_tokens(16_000);
    let mut running = running.stream().await?;
    running.next().await.context("no token")??;
    let busy = |m: &Metrics| m.value("hangar_model_in_flight", &[M]) == Some(1.0);
    metrics_when(&server, busy).await?;
    drop(running);
    let idle = |m: &Metrics| m.value("hangar_model_in_flight", &[M]) == Some(0.0);
    metrics_when(&server, idle).await?;

    let chat = server.client.generate("m").message("user", "hello");
    chat.max_tokens(5).text().await?;
    let answered = |m: &Metrics| {
        let labels = [M, ("type", "completion")];
        m.value("hangar_model_tokens_total", &labels) >= Some(5.0)
    };
    let metrics = metrics_when(&server, answered).await?;
    let chat = [
        ("gen_ai_operation_name", "chat"),
        ("gen_ai_request_model", "m"),
    ];
    for name in [
        "request_duration",
        "time_to_first_token",
        "time_per_output_token",
    ] {
        let name = format!("gen_ai_server_{name}_seconds_count");
        assert_eq!(metrics.value(&name, &chat), Some(1.0), "{name}");
    }
    server.client.unload("m").send().await?;
    let metrics = metrics_when(&server, |m| state(m, "unloaded") == Some(1.0)).await?;
    assert_eq!(metrics.value("hangar_model_in_flight", &[M]), Some(0.0));
    Ok(())
}

#[hangar_tests::test]
async fn a_phase_has_failed_whose_worker_does_not_go() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let kind = LoadKind::Fail {
        reason: "MODEL_UNUSABLE".into(),
        message: "It is broken.".into(),
    };
    let load = LoadScript {
        kind,
        ..LoadScript::default()
    };
    let script = Script {
        load,
        ..Script::default()
    };
    let server = TestServer::scripted()
        .script(&script)
        .failpoints(&failpoints)
        .time("--kill-timeout", Duration::from_millis(100))
        .start()
        .await?;
    let stays = failpoints.hold("worker-reaped.m")?;
    let refused = server.load_m().wait().await;
    refusal(
        refused,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    let metrics = Metrics::of(server.ops_listen()).await?;
    let ends = "hangar_model_load_duration_seconds_count";
    for phase in ["loading", "total"] {
        let labels = [M, ("phase", phase), ("outcome", "failed")];
        assert_eq!(metrics.value(ends, &labels), Some(1.0), "{phase}");
    }
    drop(stays);
    Ok(())
}

#[hangar_tests::test]
async fn the_pace_of_a_model_is_shown_until_the_model_is_deleted() -> Result<()> {
    const PACE: &str = "hangar_model_pace_per_second";
    let script = Script {
        pace: Some(0.25),
        ..Script::default()
    };
    let server = TestServer::scripted().script(&script).start().await?;
    server.ready().await?;
    let shown = |metrics: &Metrics| metrics.value(PACE, &[M, ("type", "prompt")]) == Some(0.25);
    metrics_when(&server, shown).await?;
    server.client.unload("m").send().await?;
    assert!(shown(&Metrics::of(server.ops_listen()).await?));
    server.client.delete_model("m").send().await?;
    metrics_when(&server, |metrics| metrics.matching(PACE, &[M]).is_empty()).await?;
    Ok(())
}
