//! What the log does not contain, and what it does to nobody.

use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use hangar_client::v1::ErrorReason;
use hangar_tests::{
    fixtures::Fixtures,
    http,
    refusals::refusal,
    scripted::Script,
    server::{TestServer, Worker, spec},
};
use tonic::Code;

/// A worker that panics as a dependency does that was built on someone's machine.
const PANICS: &str = "#!/bin/sh
echo \"thread 'x' panicked at /home/builder/.cargo/registry/src/index.crates.io-1949/tokio-1.2.3/src/lib.rs:4:5:\" >&2
echo '{\"timestamp\":\"\",\"level\":\"ERROR\",\"target\":\"x\",\"fields\":{\"message\":\"broken\",\
\"log.file\":\"/home/builder/.cargo/registry/src/index.crates.io-1949/candle-6.7.8/src/lib.rs\"}}' >&2
exit 1
";

#[hangar_tests::test]
async fn logs_have_no_paths_of_the_building_machine() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let worker = fixtures.root().join("worker");
    std::fs::write(&worker, PANICS)?;
    std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755))?;
    let options = TestServer::real()
        .fixtures(&fixtures)
        .worker(Worker::At(worker));
    let server = options.start().await?;
    let load = server.connect().await?.load("m");
    let load = load.spec(spec(&fixtures.llama()?)).wait().await;
    let died = refusal(load, Code::Unavailable, ErrorReason::WorkerDied);
    let log = server.log()?;
    // Written by a library of the server's, and by the worker.
    for reported in [
        "Database migrated",
        " tokio-1.2.3/src/lib.rs:4:5",
        "\"candle-6.7.8/src/lib.rs",
    ] {
        assert!(
            log.replace('\\', "").contains(reported),
            "{reported}: {log}"
        );
    }
    for text in [log.as_str(), died.message()] {
        assert!(!text.contains("registry/src"), "{text}");
        assert!(!text.contains("builder"), "{text}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_log_that_nobody_reads_holds_up_nothing_and_says_later_what_it_left_out() -> Result<()> {
    let mut server = TestServer::scripted()
        .script(&Script::default())
        .argument("--log=trace")
        .with_unread_log()
        .start()
        .await?;
    server.ready().await?;
    // Far more than a pipe and what waits for it have room for.
    for _ in 0..2_000 {
        server.client.info().send().await?;
    }
    let live = http::get(server.ops_listen(), "/livez").await?;
    assert_eq!(live.status, 200, "{}", live.body);
    let log = server.read_log("the log left out lines").await?;
    assert!(log.contains("\"lines\":"), "{log}");
    Ok(())
}
