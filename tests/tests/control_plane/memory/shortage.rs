//! Next to no memory is left although everybody was let in by the rules.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ModelSpec,
    ModelState::{Failed, Ready},
};
use hangar_tests::{
    failpoints::Failpoints,
    info,
    scripted::{GenerateScript, LoadScript, Script},
    server::{TestServer, spec},
};

const MIB: u64 = 1 << 20;

/// A model that is let in with far more than it has when it is loaded, and takes so much with its first answer.
fn growing_to(bytes: u64) -> Script {
    Script {
        need_host_bytes: 500 * MIB,
        load: LoadScript {
            memory_bytes: 10 * MIB,
            ..LoadScript::default()
        },
        generate: GenerateScript {
            memory_bytes: bytes,
            ..GenerateScript::default()
        },
        ..Script::default()
    }
}

/// A server with three models that have grown within what they were let in with.
async fn grown(failpoints: &Failpoints) -> Result<TestServer> {
    let server = TestServer::scripted()
        .failpoints(failpoints)
        .start()
        .await?;
    let client = &server.client;
    for (id, bytes) in [
        ("little", 40 * MIB),
        ("much", 80 * MIB),
        ("required", 120 * MIB),
    ] {
        let path = server.fixtures.scripted(id, &growing_to(bytes))?;
        let spec = ModelSpec {
            pinned: true,
            required: id == "required",
            ..spec(&path)
        };
        client.load(id).spec(spec).wait().await?;
        client.generate(id).prompt("x").max_tokens(1).text().await?;
        info::when(client, id, |info| {
            let memory = info.status.as_ref().and_then(|status| status.memory);
            memory.is_some_and(|memory| memory.host_bytes > bytes)
        })
        .await?;
    }
    Ok(server)
}

#[hangar_tests::test]
async fn the_model_that_has_grown_most_goes_first_and_a_required_one_last() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = grown(&failpoints).await?;
    for id in ["much", "little", "required"] {
        let mut transitions = server.follow(id).await?;
        let current = transitions.current().context("a status")?;
        assert_eq!(current.state(), Ready, "{id} went too early");
        failpoints.run_short("memory-short")?;
        let status = transitions.until(Failed).await?;
        assert_eq!(status.reason, "INSUFFICIENT_MEMORY", "{status:?}");
        assert!(status.message.contains("had grown by"), "{status:?}");
    }
    Ok(())
}
