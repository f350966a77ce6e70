//! The API through Python's own gRPC client, which learns all of it by reflection (v1alpha).

use std::{path::Path, process::Stdio};

use anyhow::Result;
use hangar_tests::{
    fixtures::Fixtures,
    scripted::{GenerateScript, Script},
    server::{DEADLINE, TestServer},
    tools,
};
use tokio::{process::Command, task::spawn_blocking, time::timeout};

/// Runs a check of `check.py` against a server.
async fn check(name: &str, server: &TestServer, path: &Path) -> Result<()> {
    let python = spawn_blocking(tools::python).await??;
    let output = Command::new(python)
        // Leaves no compiled files behind.
        .arg("-B")
        .arg(tools::conformance().join("check.py"))
        .args([name, &server.listen().to_string()])
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

#[hangar_tests::test]
async fn every_rpc_works_by_reflection() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    check("rpcs", &server, &fixtures.llama()?).await
}

#[hangar_tests::test]
async fn every_method_is_described() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    check("methods", &server, &server.directory).await
}

#[hangar_tests::test]
async fn errors_are_read_in_words() -> Result<()> {
    let generate = GenerateScript {
        die_after: Some(1),
        ..GenerateScript::default()
    };
    let server = TestServer::scripted()
        .script(&Script {
            generate,
            ..Script::default()
        })
        .start()
        .await?;
    check("errors", &server, &server.directory).await
}

#[hangar_tests::test]
async fn errors_with_callers_words_are_not_too_long() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    check("words", &server, &fixtures.llama()?).await
}

#[hangar_tests::test]
async fn health_is_reported() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    check("health", &server, &server.directory).await
}
