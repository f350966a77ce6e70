//! What a watch reports, and what it does not.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{ErrorReason, ModelState, watch_status_response::Event},
};
use hangar_tests::{
    fixtures::Fixtures,
    refusals::{refusal, wrong_fields},
    scripted::{Gate, GenerateScript, LoadScript, Script},
    server::{DEADLINE, TestServer, spec},
};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::Code;

use super::{
    frequent_changes::{FAILED_LOAD, LOAD_AND_UNLOAD, fail, load_and_unload, unusable},
    raw::{RawWatch, assert_contiguous, behind, of, open, status},
};

#[hangar_tests::test]
async fn a_snapshot_comes_first_and_then_every_transition_in_order() -> Result<()> {
    use ModelState::{
        Draining, Failed, Loading, Pending, Ready, Starting, Unloaded, Unloading, Warming,
    };
    let fixtures = Fixtures::new()?;
    let model = fixtures.scripted("m", &Script::default())?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut watch = open(&client, of(&[])).await?;
    let first = watch.snapshot().await?;
    assert!(first.models.is_empty() && !first.reset);
    assert_eq!(first.parts.len(), 1);

    load_and_unload(&client, "m", &model).await?;
    fail(&client, "n", &unusable(&fixtures)?).await?;
    let transitions = watch.transitions(LOAD_AND_UNLOAD + FAILED_LOAD).await?;
    assert_contiguous(&transitions);
    let mut seen = Vec::new();
    let mut generations = [0, 0];
    for transition in &transitions {
        let status = status(transition)?;
        let generation = &mut generations[usize::from(status.model_id == "n")];
        assert_eq!(status.generation, *generation + 1, "{status:?}");
        *generation = status.generation;
        seen.push((status.model_id.as_str(), status.state()));
    }
    let loaded = [
        Pending, Starting, Loading, Warming, Ready, Draining, Unloading, Unloaded,
    ];
    let failed = [Pending, Starting, Failed];
    let expected = loaded.map(|state| ("m", state)).into_iter();
    let expected: Vec<_> = expected.chain(failed.map(|state| ("n", state))).collect();
    assert_eq!(seen, expected);

    let mut later = open(&client, of(&[])).await?;
    let models = later.snapshot().await?.models;
    let states: Vec<_> = models
        .iter()
        .map(|m| (m.model_id.as_str(), m.state()))
        .collect();
    assert_eq!(states, [("m", Unloaded), ("n", Failed)]);
    assert_eq!(models[1].reason, "MODEL_UNUSABLE");
    Ok(())
}

#[hangar_tests::test]
async fn a_filter_may_name_models_that_are_not_known_yet() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut watch = open(&client, of(&["later"])).await?;
    assert!(watch.snapshot().await?.models.is_empty());
    for model in ["other", "later", "other"] {
        fail(&client, model, &unusable(&fixtures)?).await?;
    }
    let transitions = watch.transitions(FAILED_LOAD).await?;
    for (transition, revision) in transitions.iter().zip(4..) {
        assert_eq!(status(transition)?.model_id, "later");
        assert_eq!(transition.revision, revision);
    }
    let mut known = open(&client, of(&["later", "never"])).await?;
    let models = known.snapshot().await?.models;
    assert_eq!(models.len(), 1);
    assert_eq!(models[0].model_id, "later");
    Ok(())
}

#[hangar_tests::test]
async fn a_quiet_watch_gets_heartbeats_that_can_be_resumed_from() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .time("--watch-heartbeat", Duration::from_millis(100));
    let server = options.start().await?;
    let client = server.connect().await?;
    let mut watch = open(&client, of(&["m"])).await?;
    watch.snapshot().await?;
    // Of no interest to the watch; its token moves past it all the same.
    fail(&client, "other", &unusable(&fixtures)?).await?;
    for _ in 0..2 {
        let Event::Heartbeat(heartbeat) = watch.event().await? else {
            anyhow::bail!("no heartbeat")
        };
        assert!(heartbeat.time.is_some());
    }
    let mut resumed = open(&client, behind(&watch.token, &[])).await?;
    fail(&client, "m", &unusable(&fixtures)?).await?;
    let changed = loop {
        match resumed.event().await? {
            Event::Changed(changed) => break changed,
            Event::Heartbeat(_) => {}
            event => anyhow::bail!("no transition but {event:?}"),
        }
    };
    assert_eq!(changed.revision, 4);
    assert_eq!(status(&changed)?.model_id, "m");
    Ok(())
}

#[hangar_tests::test]
async fn requests_and_memory_alone_cause_no_event() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let script = Script {
        load: LoadScript {
            memory_bytes: 8 << 20,
            ..LoadScript::default()
        },
        generate: GenerateScript {
            gate: Some("token".into()),
            ..GenerateScript::default()
        },
        ..Script::default()
    };
    let model = fixtures.scripted("m", &script)?;
    let gate = Gate::new(&model, "token")?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .time("--watch-heartbeat", Duration::from_millis(1200));
    let server = options.start().await?;
    let client = server.connect().await?;
    client.load("m").spec(spec(&model)).wait().await?;
    let mut watch = open(&client, of(&[])).await?;
    let ready = watch.snapshot().await?.models;
    assert_eq!(ready[0].state(), ModelState::Ready);

    let mut answer = client
        .generate("m")
        .prompt("x")
        .max_tokens(4)
        .stream()
        .await?;
    gate.step(1)?;
    answer.next().await.context("no token")??;
    let info = client.info().model("m").send().await?;
    let running = info.models[0].status.as_ref().context("no status")?;
    assert_eq!(running.in_flight, 1);
    assert!(
        running
            .memory
            .is_some_and(|memory| memory.host_bytes >= 8 << 20)
    );
    gate.open()?;
    while answer.next().await.transpose()?.is_some() {}
    // The first may have been on its way; before the second the server has looked at the memory.
    for _ in 0..2 {
        let event = watch.event().await?;
        assert!(matches!(event, Event::Heartbeat(_)), "{event:?}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn watchers_beyond_the_limit_are_refused() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .argument("--max-watchers")
        .argument("4");
    let server = options.start().await?;
    let mut tasks = JoinSet::new();
    for _ in 0..32 {
        let client = server.connect().await?;
        tasks.spawn(async move { open(&client, of(&[])).await });
    }
    let (open_watches, refused): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(open_watches.len(), 4);
    for result in refused {
        let refusal = refusal(result, Code::ResourceExhausted, ErrorReason::LimitReached);
        assert_eq!(
            refusal.details().metadata.get("limit").map(String::as_str),
            Some("4")
        );
    }
    drop(open_watches);
    let client = server.connect().await?;
    let mut freed = slot(&client).await?;
    freed.snapshot().await?;
    Ok(())
}

/// A watch, as soon as the server has noticed that another one ended.
async fn slot(client: &Client) -> Result<RawWatch> {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let again = async {
        loop {
            ticks.tick().await;
            match open(client, of(&[])).await {
                Err(error) if error.reason() == Some(ErrorReason::LimitReached) => {}
                result => return result,
            }
        }
    };
    Ok(tokio::time::timeout(DEADLINE, again).await??)
}

#[hangar_tests::test]
async fn wrong_fields_are_all_named() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut request = of(&["good", "../bad", "also bad"]);
    request.progress_interval = Some(prost_types::Duration {
        seconds: 0,
        nanos: 50_000_000,
    });
    let mut fields = wrong_fields(open(&client, request).await);
    fields.sort();
    assert_eq!(
        fields,
        ["model_ids[1]", "model_ids[2]", "progress_interval"]
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_watch_ends_when_the_server_shuts_down() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::scripted().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut watch = open(&client, of(&[])).await?;
    watch.snapshot().await?;
    fail(&client, "m", &unusable(&fixtures)?).await?;
    server.signal(Signal::TERM)?;
    // What happened before the end still comes.
    assert_contiguous(&watch.transitions(FAILED_LOAD).await?);
    let end = refusal(
        watch.response().await?,
        Code::Unavailable,
        ErrorReason::ShuttingDown,
    );
    assert!(end.details().retry_after.is_some());
    assert!(server.ended(DEADLINE).await?.success());
    Ok(())
}
