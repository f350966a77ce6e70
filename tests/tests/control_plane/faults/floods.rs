//! Workers that write what nobody wants to read.

use std::time::Instant;

use anyhow::{Context, Result};
use hangar_tests::{
    processes,
    scripted::{Flood, Script},
    server::TestServer,
};

const FLOOD: u64 = 300 << 20;

/// Lines of a worker that the server passes on.
const LINES_A_SECOND: usize = 200;

/// A line that was cut, in the server's log.
const LONGEST_LINE: usize = 5 << 10;

async fn assert_bears(script: Script) -> Result<()> {
    let server = TestServer::checked(&script).start().await?;
    // A load without a flood, so that the server has what it needs for a load.
    let path = server.fixtures.scripted("calm", &Script::default())?;
    server
        .client
        .load("calm")
        .spec(hangar_tests::server::spec(&path))
        .wait()
        .await?;
    let before = processes::host_bytes(server.pid())?;
    let began = Instant::now();
    server.ready().await?;
    let grown = processes::host_bytes(server.pid())?.saturating_sub(before);
    assert!(grown < 16 << 20, "the server grew by {grown} bytes");
    let log = server.log()?.len();
    let seconds = usize::try_from(began.elapsed().as_secs())?;
    let limit = (seconds + 2) * LINES_A_SECOND * LONGEST_LINE;
    assert!(log < limit, "the server logged {log} bytes in {seconds} s");
    let answer = server
        .client
        .generate("m")
        .prompt("x")
        .max_tokens(2)
        .text()
        .await?;
    assert_eq!(answer.text, "t0 t1 ");
    let status = server.info().await?.status.context("a status")?;
    assert_eq!((status.attempt, status.restarts), (1, 0));
    Ok(())
}

#[hangar_tests::test]
async fn a_flood_of_lines_on_standard_error_is_borne() -> Result<()> {
    let flood_stderr = Flood {
        bytes: FLOOD,
        line: 120,
    };
    assert_bears(Script {
        flood_stderr,
        ..Script::default()
    })
    .await
}

#[hangar_tests::test]
async fn a_flood_without_a_line_end_on_standard_error_is_borne() -> Result<()> {
    let flood_stderr = Flood {
        bytes: FLOOD,
        line: 0,
    };
    assert_bears(Script {
        flood_stderr,
        ..Script::default()
    })
    .await
}

#[hangar_tests::test]
async fn a_flood_on_standard_output_is_borne() -> Result<()> {
    let flood_stdout = Flood {
        bytes: FLOOD,
        line: 4000,
    };
    assert_bears(Script {
        flood_stdout,
        ..Script::default()
    })
    .await
}
