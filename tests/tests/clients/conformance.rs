//! The API through Python's own gRPC client, which learns all of it by reflection (v1alpha).

use std::{path::Path, process::Stdio};

use anyhow::Result;
use hangar_tests::{
    fixtures::Fixtures,
    hangar::{DEADLINE, Hangar, Options},
    scripted::{GenerateScript, Script},
    scripted_server::ScriptedServer,
    tools,
};
use tokio::{process::Command, task::spawn_blocking, time::timeout};

/// Runs a check of `check.py` against a server.
async fn check(name: &str, hangar: &Hangar, path: &Path) -> Result<()> {
    let python = spawn_blocking(tools::python).await??;
    let output = Command::new(python)
        // Leaves no compiled files behind.
        .arg("-B")
        .arg(tools::conformance().join("check.py"))
        .args([name, &hangar.listen().to_string()])
        .arg(path)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(DEADLINE, output).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(output.stdout, b"ok\n");
    Ok(())
}

#[tokio::test]
async fn every_rpc_works_by_reflection() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    check("rpcs", &hangar, &fixtures.llama()?).await
}

#[tokio::test]
async fn every_method_is_described() -> Result<()> {
    let server = ScriptedServer::start(&Script::default()).await?;
    check("methods", &server.hangar, &server.directory).await
}

#[tokio::test]
async fn errors_are_read_in_words() -> Result<()> {
    let generate = GenerateScript {
        die_after: Some(1),
        ..GenerateScript::default()
    };
    let server = ScriptedServer::start(&Script {
        generate,
        ..Script::default()
    })
    .await?;
    check("errors", &server.hangar, &server.directory).await
}

#[tokio::test]
async fn errors_with_callers_words_are_not_too_long() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    check("words", &hangar, &fixtures.llama()?).await
}

#[tokio::test]
async fn health_is_reported() -> Result<()> {
    let server = ScriptedServer::start(&Script::default()).await?;
    check("health", &server.hangar, &server.directory).await
}
