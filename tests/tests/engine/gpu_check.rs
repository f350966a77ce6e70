//! gpu-check goes through all of its steps: here on the processor, with tiny models.

use std::{process::Output, time::Duration};

use anyhow::{Context, Result};
use hangar_tests::server::binary;
use tokio::{process::Command, time::timeout};

/// Longest run.
const DEADLINE: Duration = Duration::from_secs(300);

/// Its rows, in order.
const STEPS: [&str; 12] = [
    "device",
    "models written",
    "greedy text as on the CPU",
    "demo model as on the CPU",
    "embedding",
    "load, 1.3 M",
    "through the server and in one process, 1.3 M",
    "four requests at a time",
    "two models on one device",
    "killed while generating",
    "a model that does not fit",
    "loaded and unloaded 3 times",
];

async fn check(arguments: &[&str]) -> Result<Output> {
    let program = binary("gpu-check")?;
    // What was built is there.
    let directory = program.parent().context("gpu-check lies nowhere")?;
    let directory = directory.to_owned();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HANGAR_TESTS_BIN_DIR", directory)
        .kill_on_drop(true);
    let output = timeout(DEADLINE, command.output()).await;
    Ok(output.context("gpu-check does not end")??)
}

/// Name, verdict and words of each row.
fn rows(table: &str) -> Vec<(String, String, String)> {
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| {
        let mut cells = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ']));
        let mut next = || cells.next().unwrap_or_default().to_owned();
        (next(), next(), next())
    });
    cells.skip(1).collect()
}

#[hangar_tests::test]
async fn every_step_runs_and_passes() -> Result<()> {
    let output = check(&["--device", "cpu", "--small"]).await?;
    let reported = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{reported}");
    let table = String::from_utf8(output.stdout)?;
    let rows = rows(&table);
    let names: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(names, STEPS, "{table}");
    for (name, verdict, words) in &rows {
        assert_eq!(verdict, "pass", "{name}: {words}");
        assert!(!words.is_empty(), "{name}");
    }
    let speed = rows
        .iter()
        .find(|row| row.0.starts_with("through the server"));
    assert!(speed.is_some_and(|row| row.2.contains("ratio")), "{table}");
    let fit = rows.iter().find(|row| row.0 == "a model that does not fit");
    assert!(fit.is_some_and(|row| row.2.contains("1.0 PiB")), "{table}");
    Ok(())
}

#[hangar_tests::test]
async fn a_gpu_that_is_not_there_fails_the_check() -> Result<()> {
    // An ordinal that no machine has.
    let arguments = ["--device", "cuda:99", "--small", "--rounds", "1"];
    let output = check(&arguments).await?;
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout)?;
    let rows = rows(&table);
    let device = rows.first().context("no table")?;
    assert_eq!((device.0.as_str(), device.1.as_str()), ("device", "FAIL"));
    assert_eq!(rows.len(), STEPS.len(), "every step has its row: {table}");
    Ok(())
}

#[hangar_tests::test]
async fn wrong_usage_is_refused_with_help() -> Result<()> {
    let output = check(&["--device", "tpu"]).await?;
    assert_eq!(output.status.code(), Some(2));
    let reported = String::from_utf8(output.stderr)?;
    assert!(reported.contains("--device is cuda"), "{reported}");
    Ok(())
}
