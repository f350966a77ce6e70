//! Who has to go to make room, and who never does.

use std::time::Duration;

use anyhow::Result;
use hangar_client::{
    Load,
    v1::{
        DesiredState::Loaded,
        ErrorReason, ModelSpec,
        ModelState::{Draining, Ready, Unloaded},
        ModelStatus,
        SuspendReason::Evicted,
    },
};
use hangar_tests::{
    background::Background,
    refusals::refusal,
    scripted::{GenerateScript, LoadScript, Script},
    server::{TestServer, spec},
};
use tonic::Code;

use super::server::MemoryServer;

#[hangar_tests::test]
async fn the_idle_model_used_least_recently_is_evicted() -> Result<()> {
    let server = MemoryServer::for_units(2.6).await?;
    server.load_all(["a", "b"]).await?;
    server.touch("a").await?;
    let mut transitions = server.follow("b").await?;
    server.client.load("c").spec(server.spec()?).wait().await?;
    let draining = transitions.until(Draining).await?;
    assert_eq!(
        (draining.suspend_reason(), draining.in_flight),
        (Evicted, 0)
    );
    let gone = transitions.until(Unloaded).await?;
    for words in ["make room for c", "pin it"] {
        assert!(gone.message.contains(words), "{}", gone.message);
    }
    assert!(gone.reason.is_empty() && gone.memory.is_none());
    assert_eq!(server.ready().await?, ["a", "c"]);
    let info = server.info("b").await?;
    assert_eq!(
        (info.suspend_reason(), info.desired_state()),
        (Evicted, Loaded)
    );
    // Asked for again, it comes back in the place of another.
    server.client.load("b").wait().await?;
    assert_eq!(server.ready().await?, ["b", "c"]);
    Ok(())
}

#[hangar_tests::test]
async fn pinned_and_required_models_are_never_evicted() -> Result<()> {
    let server = MemoryServer::for_units(2.6).await?;
    let pinned = ModelSpec {
        pinned: true,
        ..server.spec()?
    };
    let required = ModelSpec {
        required: true,
        ..server.spec()?
    };
    server.client.load("pinned").spec(pinned).wait().await?;
    server.client.load("required").spec(required).wait().await?;
    let refused = server.client.load("c").spec(server.spec()?).wait().await;
    refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert_eq!(server.ready().await?, ["pinned", "required"]);
    Ok(())
}

#[hangar_tests::test]
async fn a_held_model_is_evicted_only_after_its_last_holder_has_released_it() -> Result<()> {
    let server = MemoryServer::for_units(2.6).await?;
    let session = server.client.open_session(Duration::from_secs(60)).await?;
    for id in ["a", "b"] {
        server.client.load(id).spec(server.spec()?).wait().await?;
        server.client.load(id).session(&session).wait().await?;
    }
    let refused = server.client.load("c").spec(server.spec()?).wait().await;
    refusal(
        refused,
        Code::ResourceExhausted,
        ErrorReason::InsufficientMemory,
    );
    assert_eq!(server.ready().await?, ["a", "b"]);
    session.close().await?;
    server.client.load("c").wait().await?;
    assert_eq!(server.ready().await?, ["b", "c"]);
    Ok(())
}

/// A model that takes 100 MiB, and waits before each token where there is a gate.
fn hundred() -> Script {
    Script {
        need_host_bytes: 100 << 20,
        load: LoadScript {
            memory_bytes: 100 << 20,
            ..LoadScript::default()
        },
        generate: GenerateScript {
            gate: Some("token".into()),
            ..GenerateScript::default()
        },
        ..Script::default()
    }
}

/// A server with room for two models of a [`hundred`].
async fn with_room_for_two() -> Result<TestServer> {
    let options = TestServer::scripted().script(&hundred());
    let options = options.argument("--memory-limit").argument("260MiB");
    options.start().await
}

/// The load of another model of a [`hundred`].
fn other(server: &TestServer, id: &str, priority: i32) -> Result<Load> {
    let spec = ModelSpec {
        priority,
        ..spec(&server.fixtures.scripted(id, &hundred())?)
    };
    Ok(server.client.load(id).spec(spec))
}

/// Waits until the model `m` answers so many requests.
async fn in_flight(server: &TestServer, requests: u32) -> Result<()> {
    let is_so = |status: &ModelStatus| status.in_flight == requests;
    server
        .info_when(|info| info.status.as_ref().is_some_and(is_so))
        .await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_busy_model_is_not_evicted_and_neither_is_one_of_higher_priority() -> Result<()> {
    let server = with_room_for_two().await?;
    server.ready().await?;
    other(&server, "important", 1)?.wait().await?;
    let gate = server.gate("token")?;
    let answer = server.client.generate("m").prompt("x").max_tokens(3);
    let answer = Background::start(answer.text());
    in_flight(&server, 1).await?;
    let refused = other(&server, "c", 0)?.wait().await;
    let (code, reason) = (Code::ResourceExhausted, ErrorReason::InsufficientMemory);
    refusal(refused, code, reason);
    // For somebody of its own rank it has to go; the busy one does not.
    let mut important = server.follow("important").await?;
    let mut busy = server.follow("m").await?;
    other(&server, "d", 1)?.wait().await?;
    important.until(Unloaded).await?;
    gate.open()?;
    let usage = answer.end().await??.done.usage;
    assert_eq!(usage.map(|usage| usage.completion_tokens), Some(3));
    in_flight(&server, 0).await?;
    assert_eq!(busy.current().map(|status| status.state()), Some(Ready));
    // No longer busy, it goes.
    other(&server, "c", 0)?.wait().await?;
    assert_eq!(busy.next().await?.suspend_reason(), Evicted);
    Ok(())
}

#[hangar_tests::test]
async fn an_evicted_model_is_loaded_on_demand() -> Result<()> {
    let server = MemoryServer::for_units(1.5).await?;
    for id in ["a", "b"] {
        let spec = ModelSpec {
            load_on_demand: true,
            ..server.spec()?
        };
        server.client.load(id).spec(spec).wait().await?;
    }
    let mut transitions = server.follow("a").await?;
    let first = server.touch("a").await?;
    let ready = transitions.until(Ready).await?;
    assert!(ready.message.is_empty());
    for _ in 0..3 {
        server.touch("b").await?;
        assert_eq!(server.ready().await?, ["b"]);
        assert_eq!(server.touch("a").await?, first);
        assert_eq!(server.ready().await?, ["a"]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn loading_all_evicts_none_of_them() -> Result<()> {
    let server = MemoryServer::for_units(2.6).await?;
    server.load_all(["a", "b", "c"]).await?;
    let before = server.ready().await?;
    let all = server.client.load_all().wait().await?;
    let failed: Vec<_> = all
        .loads
        .iter()
        .filter(|load| load.error.is_some())
        .collect();
    assert_eq!(failed.len(), 1, "{all:?}");
    assert_eq!(server.ready().await?, before);
    Ok(())
}
