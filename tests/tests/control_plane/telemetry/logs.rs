//! What the log does not contain.

use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use hangar_client::v1::ErrorReason;
use hangar_tests::{
    fixtures::Fixtures,
    refusals::refusal,
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
