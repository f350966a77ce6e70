//! The API as grpcurl shows it: all of it is described, with words, on the port that offers it.

use std::{
    io::{Write, stderr},
    net::SocketAddr,
};

use anyhow::{Context, Result};
use hangar_tests::{
    page_commands::{Grpcurl, words},
    scripted::Script,
    server::TestServer,
};

/// What grpcurl prints for a line, if there is Go to make grpcurl; `buf curl` describes nothing.
async fn printed(line: &str, at: SocketAddr) -> Result<Option<String>> {
    let grpcurl = Grpcurl::new().await?;
    if matches!(grpcurl, Grpcurl::Buf(_)) {
        anyhow::ensure!(
            std::env::var_os("CI").is_none(),
            "there is no Go to make grpcurl"
        );
        // Past the test harness, which would swallow it.
        writeln!(
            stderr(),
            "left out: grpcurl, since there is no Go to make it"
        )?;
        return Ok(None);
    }
    let line = line.replace("SERVER", &at.to_string());
    let output = grpcurl.output(&words(&line)).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Some(text + &errors))
}

/// Makes sure that grpcurl prints all of this.
async fn prints(line: &str, at: SocketAddr, parts: &[&str]) -> Result<()> {
    if let Some(text) = printed(line, at).await? {
        for part in parts {
            anyhow::ensure!(text.contains(part), "{line}: no {part:?} in\n{text}");
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn describe_shows_the_comments_of_the_protos() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let described: [(&str, &[&str]); 5] = [
        (
            "hangar.v1.LoadModelRequest",
            &[
                "Required",
                "300 s",
                "At most 128",
                "Default: false",
                "wait = 4",
            ],
        ),
        (
            "hangar.v1.ModelService",
            &["process is gone", "Codes:", "MODEL_HELD"],
        ),
        (
            "hangar.v1.ModelService.UnloadModel",
            &["Drains, stops and verifies"],
        ),
        (
            "hangar.v1.ErrorReason",
            &["FAILED_PRECONDITION: others hold the model"],
        ),
        ("hangar.v1.Sampling", &["to 2. Default 1", "in (0, 1]"]),
    ];
    for (name, parts) in described {
        let parts: Vec<_> = parts.iter().map(|part| part.to_lowercase()).collect();
        let line = format!("-plaintext SERVER describe {name}");
        let Some(text) = printed(&line, server.listen()).await? else {
            return Ok(());
        };
        let text = text.to_lowercase();
        for part in parts {
            assert!(text.contains(&part), "{name}: no {part:?} in\n{text}");
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_ops_port_has_reflection_of_its_services() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let ops = server.ops_listen();
    let listed = printed("-plaintext SERVER list", ops).await?;
    if let Some(listed) = listed {
        let services: Vec<_> = listed.lines().collect();
        assert_eq!(
            services,
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection"
            ]
        );
    }
    let check = r#"-plaintext -d '{"service":"readiness"}' SERVER grpc.health.v1.Health/Check"#;
    prints(check, ops, &["SERVING"]).await?;
    let unknown = r#"-plaintext -d '{"service":"x"}' SERVER grpc.health.v1.Health/Check"#;
    prints(unknown, ops, &["NotFound", "readiness", "ResourceInfo"]).await?;
    let elsewhere = "-plaintext SERVER describe hangar.v1.ModelService";
    prints(elsewhere, ops, &["not found"]).await
}

#[hangar_tests::test]
async fn reflection_is_turned_off_on_both_ports() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .env("HANGAR_REFLECTION", "false")
        .start()
        .await?;
    for port in [server.listen(), server.ops_listen()] {
        let line = "-plaintext SERVER list";
        prints(line, port, &["does not support the reflection API"]).await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_worker_protocol_is_not_in_reflection() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let listed = printed("-plaintext SERVER list", server.listen()).await?;
    let Some(listed) = listed else {
        return Ok(());
    };
    assert!(!listed.contains("worker"), "{listed}");
    for name in ["WorkerService", "LoadRequest"] {
        let line = format!("-plaintext SERVER describe hangar.worker.v1.{name}");
        let text = printed(&line, server.listen()).await?;
        let text = text.context("no grpcurl")?;
        assert!(text.contains("not found"), "{text}");
    }
    Ok(())
}
