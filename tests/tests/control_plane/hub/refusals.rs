//! What is refused, with what to do about it, and what never leaves or enters the server.

use std::fs;

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelState::Ready};
use hangar_tests::{
    hub::{Fault, TestHub, hub_spec},
    refusals::refusal,
    server::TestServer,
};
use tonic::Code;

use super::{HubServer, REPOSITORY, WEIGHTS, blobs, says};

const SECRET: &str = "hf_a-secret-that-nobody-may-see";

#[hangar_tests::test]
async fn a_hub_that_wants_a_token_refuses_and_gets_it_from_a_file() -> Result<()> {
    let server = HubServer::new().await?;
    server.hub.require(SECRET);
    let spec = hub_spec(REPOSITORY, &[], 3);
    let load = server.client.load("m").spec(spec.clone()).wait().await;
    let refused = refusal(load, Code::PermissionDenied, ErrorReason::HubDenied);
    assert!(refused.message().contains("--hub-token-file"), "{refused}");
    assert_eq!(server.status().await?.attempt, 1);
    let file = server.fixtures.outside().join("token");
    fs::write(&file, "wrong\n")?;
    let options = TestServer::real()
        .fixtures(&server.fixtures)
        .hub(&server.hub);
    let options = options.argument("--hub-token-file").argument(&file);
    let hangar = options.start().await?;
    let client = hangar.connect().await?;
    let load = client.load("m").spec(spec).wait().await;
    refusal(load, Code::PermissionDenied, ErrorReason::HubDenied);
    // It is read anew for each download.
    fs::write(&file, format!("{SECRET}\n"))?;
    client.load("m").wait().await?;
    assert!(!says(&client, "m").await?.is_empty());
    assert!(!hangar.log()?.contains(SECRET));
    Ok(())
}

#[hangar_tests::test]
async fn a_redirect_to_another_host_is_followed_without_the_token() -> Result<()> {
    let server = HubServer::with(|options| {
        options
            .env("HANGAR_HUB_TOKEN", SECRET)
            .argument("--log=trace")
    })
    .await?;
    server.hub.require(SECRET);
    let elsewhere = TestHub::start().await?;
    elsewhere.add(REPOSITORY, &server.fixtures.llama()?)?;
    server.hub.fault(WEIGHTS, Fault::Redirect(elsewhere.url()));
    let mut transitions = server.follow("m").await?;
    server
        .client
        .load("m")
        .spec(hub_spec(REPOSITORY, &[], 1))
        .send()
        .await?;
    let worker = transitions.until(Ready).await?.worker_pid;
    let followed = elsewhere.requests_for(WEIGHTS);
    assert_eq!((followed.len(), followed[0].served), (1, server.weights()?));
    assert_eq!(followed[0].authorization, None);
    let bearer = format!("Bearer {SECRET}");
    let known = server.hub.requests().into_iter();
    assert!(
        known
            .map(|r| r.authorization)
            .all(|given| given.as_ref() == Some(&bearer))
    );
    assert!(!server.log()?.contains(SECRET));
    let environment = fs::read(format!("/proc/{worker}/environ"))?;
    assert!(!String::from_utf8_lossy(&environment).contains(SECRET));
    Ok(())
}

#[hangar_tests::test]
async fn a_repository_that_the_hub_does_not_have_is_unusable() -> Result<()> {
    let server = HubServer::new().await?;
    let mut revision = hub_spec(REPOSITORY, &[], 3);
    if let Some(hangar_client::v1::model_source::Source::HuggingFace(hub)) = revision
        .source
        .as_mut()
        .and_then(|source| source.source.as_mut())
    {
        hub.revision = "v2".to_owned();
    }
    for (spec, words) in [
        (hub_spec("tiny/none", &[], 3), "tiny/none"),
        (revision, "revision"),
        (hub_spec(REPOSITORY, &["none.gguf"], 3), "none.gguf"),
    ] {
        let load = server
            .client
            .load("m")
            .force_reload()
            .spec(spec)
            .wait()
            .await;
        let refused = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
        assert!(refused.message().contains(words), "{refused}");
        assert_eq!(server.status().await?.attempt, 1);
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_unsupported_model_is_refused_before_it_is_downloaded() -> Result<()> {
    let server = HubServer::new().await?;
    for (file, words) in [
        ("pytorch_model.bin", "pickled"),
        ("other.safetensors", "other.safetensors"),
        ("m.gguf", "m.gguf"),
        ("README.md", "no weights"),
    ] {
        let name = format!("tiny/with-{file}");
        server.hub.add_file(&name, "config.json", b"{}".to_vec());
        server.hub.add_file(&name, file, vec![0; 10]);
        let load = server
            .client
            .load("m")
            .force_reload()
            .spec(hub_spec(&name, &[], 3));
        let refused = refusal(
            load.wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        assert!(refused.message().contains(words), "{refused}");
        assert!(server.hub.requests_for(file).is_empty());
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_name_that_leads_out_of_the_cache_is_refused() -> Result<()> {
    let server = HubServer::new().await?;
    for name in [
        "../../../../evil.json",
        "/tmp/evil.json",
        "a/../../evil",
        "..",
    ] {
        server.hub.add(REPOSITORY, &server.fixtures.llama()?)?;
        server.hub.add_file(REPOSITORY, name, b"evil".to_vec());
        let load = server.client.load("m").force_reload();
        let load = load.spec(hub_spec(REPOSITORY, &[], 3)).wait().await;
        let refused = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
        assert!(refused.message().contains("leads out"), "{refused}");
    }
    let files = server.hub.requests().into_iter();
    assert_eq!(files.filter(|r| r.line.contains("/resolve/")).count(), 0);
    assert!(!blobs(&server.cache()).exists());
    Ok(())
}

#[hangar_tests::test]
async fn a_disk_that_is_too_small_is_seen_before_a_byte_is_written() -> Result<()> {
    let server = HubServer::new().await?;
    server.hub.announce(REPOSITORY, WEIGHTS, 1 << 50);
    let load = server.client.load("m").spec(hub_spec(REPOSITORY, &[], 3));
    let refused = refusal(
        load.wait().await,
        Code::ResourceExhausted,
        ErrorReason::StorageFull,
    );
    let reported = refused.message();
    assert!(
        reported.contains("11258999") && reported.contains("are free"),
        "{reported}"
    );
    let files = server.hub.requests().into_iter();
    assert_eq!(files.filter(|r| r.line.contains("/resolve/")).count(), 0);
    assert_eq!(fs::read_dir(blobs(&server.cache()))?.count(), 0);
    // Once there is room, it goes on.
    server.hub.announce(REPOSITORY, WEIGHTS, server.weights()?);
    server.client.load("m").wait().await?;
    Ok(())
}

#[hangar_tests::test]
async fn a_model_in_more_files_than_any_has_is_refused_before_they_are_asked_about() -> Result<()> {
    const PARTS: u32 = 10_001;
    let server = HubServer::new().await?;
    let repository = "odd/parts";
    server
        .hub
        .add_file(repository, "config.json", b"{}".to_vec());
    for part in 1..=PARTS {
        let name = format!("model-{part:05}-of-{PARTS}.safetensors");
        server.hub.announce(repository, &name, 1);
    }
    let load = server.client.load("m").spec(hub_spec(repository, &[], 1));
    let refused = refusal(
        load.wait().await,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    assert!(refused.message().contains("are the most"), "{refused}");
    assert_eq!(server.hub.requests().len(), 1);
    Ok(())
}
