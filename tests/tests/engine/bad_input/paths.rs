//! Paths that models cannot be loaded from.

use std::os::unix::fs::symlink;

use anyhow::Result;
use hangar_client::{
    Error,
    v1::{DesiredState, ErrorReason, ModelLoad},
};
use hangar_tests::{
    fixtures::{Broken, Fixtures},
    refusals::{refusal, wrong_fields},
    server::{TestServer, spec},
};
use tonic::Code;

use super::HealthyServer;

async fn load(server: &HealthyServer, path: &str) -> Result<ModelLoad, Error> {
    let mut spec = spec(&server.fixtures.root());
    if let Some(hangar_client::v1::model_source::Source::Path(given)) = spec
        .source
        .as_mut()
        .and_then(|source| source.source.as_mut())
    {
        path.clone_into(given);
    }
    server.client.load("m").spec(spec).wait().await
}

#[hangar_tests::test]
async fn what_lies_outside_of_the_roots_is_not_allowed_and_not_registered() -> Result<()> {
    let server = HealthyServer::new().await?;
    let root = server.fixtures.root();
    let outside = server.fixtures.outside();
    std::fs::write(outside.join("there"), "x")?;
    symlink("/dev/zero", root.join("device"))?;
    symlink(&outside, root.join("leaves"))?;
    let with_foreign_weights = server.fixtures.broken(Broken::NoWeights)?;
    let weights = "model.safetensors";
    std::fs::copy(
        server.fixtures.llama()?.join(weights),
        outside.join(weights),
    )?;
    symlink(outside.join(weights), with_foreign_weights.join(weights))?;
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    for path in [
        "/".to_owned(),
        "/etc/passwd".to_owned(),
        "/dev/zero".to_owned(),
        "/proc/self/mem".to_owned(),
        path(outside.join("there")),
        path(outside.join("not-there")),
        path(root.join("../outside")),
        path(root.join("../outside/not-there")),
        path(root.join("device")),
        path(root.join("leaves")),
        path(root.join("leaves/there")),
        path(root.join("leaves/not-there")),
        path(server.fixtures.broken(Broken::SymlinkOut)?),
        path(server.fixtures.broken(Broken::Device)?),
        path(with_foreign_weights),
        format!("{}-secret", root.display()),
    ] {
        let answer = load(&server, &path).await;
        let refusal = refusal(
            answer,
            Code::PermissionDenied,
            ErrorReason::SourceNotAllowed,
        );
        assert!(
            refusal.message().contains("--model-root"),
            "{path}: {refusal}"
        );
        let unknown = server.client.info().model("m").send().await;
        self::refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    }
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn paths_of_wrong_form_are_refused() -> Result<()> {
    let server = HealthyServer::new().await?;
    let long = format!("/{}", "x".repeat(4096));
    for path in ["", "models/m", "./m", "~/m", "/m\0", &long] {
        assert_eq!(
            wrong_fields(load(&server, path).await),
            ["spec.source.path"],
            "{path:?}"
        );
    }
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn a_path_that_is_no_model_is_unusable() -> Result<()> {
    let server = HealthyServer::new().await?;
    for path in [
        server.fixtures.llama()?.join("config.json"),
        server.fixtures.llama()?.join("model.safetensors"),
    ] {
        let id = format!("m{}", fastrand::u32(..));
        let load = server.client.load(&id).spec(spec(&path)).wait().await;
        refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
        let status = server.model(&id).await?.status.unwrap_or_default();
        assert_eq!(status.reason, "MODEL_UNUSABLE", "{}", path.display());
    }
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn a_path_without_a_model_registers_nothing() -> Result<()> {
    let server = HealthyServer::new().await?;
    let root = server.fixtures.root();
    let llama = server.fixtures.llama()?;
    let readme = server.fixtures.directory("readme")?;
    std::fs::write(readme.join("README.md"), "x")?;
    let empty = server.fixtures.directory("empty")?.join("empty.gguf");
    std::fs::write(&empty, "")?;
    for (path, word) in [
        (root.join("not-there"), "No such file"),
        (server.fixtures.broken(Broken::Dangling)?, "No such file"),
        (root.join("not/there/at/all"), "No such file"),
        (llama.join("config.json/x"), "Not a directory"),
        (root.clone(), "without a model"),
        (readme, "without a model"),
        (
            server.fixtures.broken(Broken::EmptyDirectory)?,
            "an empty directory",
        ),
        (empty, "an empty file"),
    ] {
        let load = server.client.load("m").spec(spec(&path)).wait().await;
        let refused = refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
        assert!(refused.message().contains(word), "{refused}");
        assert!(!refused.message().contains("registered"), "{refused}");
        let unknown = server.client.info().model("m").send().await;
        refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    }
    for path in [root.join("not-there"), llama.clone()] {
        let mut spec = spec(&llama);
        spec.tokenizer = path.join("not-there.json").to_string_lossy().into_owned();
        let load = server.client.load("m").spec(spec).wait().await;
        refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
        let unknown = server.client.info().model("m").send().await;
        refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    }
    server.is_unharmed().await
}

/// One that is registered can be asked for in vain, and that changes nothing either.
#[hangar_tests::test]
async fn a_load_of_what_has_vanished_is_refused_and_not_remembered() -> Result<()> {
    let server = HealthyServer::new().await?;
    let path = server.fixtures.broken(Broken::NoTemplate)?;
    let load = server.client.load("m").spec(spec(&path)).wait();
    load.await?;
    server.client.unload("m").send().await?;
    let before = server.model("m").await?;
    std::fs::remove_dir_all(&path)?;
    let load = server.client.load("m").wait().await;
    refusal(load, Code::FailedPrecondition, ErrorReason::ModelUnusable);
    let after = server.model("m").await?;
    assert_eq!(after.desired_state(), DesiredState::Unloaded);
    assert_eq!(after.status, before.status);
    assert_eq!(after.recent_loads, before.recent_loads);
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn links_that_stay_within_the_roots_are_followed() -> Result<()> {
    let server = HealthyServer::new().await?;
    let path = server.fixtures.broken(Broken::NoWeights)?;
    let weights = "model.safetensors";
    symlink(server.fixtures.llama()?.join(weights), path.join(weights))?;
    let link = server.fixtures.root().join("link");
    symlink(path, &link)?;
    server.client.load("m").spec(spec(&link)).wait().await?;
    server.client.unload("m").send().await?;
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn a_path_may_hold_any_characters() -> Result<()> {
    let server = HealthyServer::new().await?;
    let path = server
        .fixtures
        .root()
        .join("sp ace \u{1f600} 'quote\" %20\n");
    symlink(server.fixtures.llama()?, &path)?;
    server.client.load("m").spec(spec(&path)).wait().await?;
    server.client.unload("m").send().await?;
    server.is_unharmed().await
}

#[hangar_tests::test]
async fn a_server_without_roots_loads_nothing_from_disk() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().without_root().start().await?;
    let client = server.connect().await?;
    let load = client.load("m").spec(spec(&fixtures.llama()?)).wait().await;
    refusal(load, Code::PermissionDenied, ErrorReason::SourceNotAllowed);
    Ok(())
}
