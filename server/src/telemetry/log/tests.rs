//! Tests of what waits for the log's reader, in a process of their own where that is the whole log.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use super::*;
use crate::{
    config::{LogFormat, Settings},
    telemetry::{Telemetry, tests::settings},
};

/// Milliseconds that the process of [`last_lines_come_to_a_reader_and_wait_for_nobody_else`] flushes its log for.
const FLUSH: &str = "HANGAR_TEST_LOG_FLUSH_MILLIS";

/// What that process says on standard output when it has logged more than a pipe takes and more than may wait.
const LOGGED: &str = "logged";

#[bounded::test]
fn lines_wait_in_order_and_those_beyond_the_limit_are_counted() {
    let mut unwritten = Unwritten::new();
    let line = |n: usize| format!("{n:01023}\n");
    for n in 0..1_100 {
        unwritten.add(line(n));
    }
    assert_eq!(unwritten.lines.len(), 1_024);
    assert_eq!((unwritten.bytes, unwritten.left_out), (MAX_BYTES, 76));
    assert_eq!(unwritten.take(), Some(line(0)));
    assert!(unwritten.is_writing && !unwritten.is_empty());
    unwritten.add(line(1_100));
    assert_eq!(unwritten.lines.back(), Some(&line(1_100)));
    assert_eq!(unwritten.left_out, 76);
}

#[bounded::test]
async fn last_lines_come_to_a_reader_and_wait_for_nobody_else() {
    if let Ok(limit) = env::var(FLUSH) {
        log_too_much(Duration::from_millis(limit.parse().unwrap()));
        return;
    }
    let mut unread = logging(1);
    assert!(unread.wait().unwrap().success());
    let mut read = logging(3_600_000);
    let mut lines = BufReader::new(read.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with(LOGGED)));
    let mut log = String::new();
    read.stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    assert!(read.wait().unwrap().success());
    let last: Vec<_> = log.lines().rev().take(2).collect();
    assert!(
        last[0].contains("\"the log left out lines") && last[0].contains("\"lines\":"),
        "{last:?}"
    );
    assert_eq!(last[1], "the last one");
}

/// A process that logs too much, and flushes its log for so long.
fn logging(flush_millis: u64) -> Child {
    let test = "telemetry::log::tests::last_lines_come_to_a_reader_and_wait_for_nobody_else";
    Command::new(env::current_exe().unwrap())
        .args(["--exact", test])
        .env(FLUSH, flush_millis.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn log_too_much(limit: Duration) {
    let settings = Settings {
        log: "error".to_owned(),
        log_format: LogFormat::Json,
        ..settings()
    };
    let _telemetry = Telemetry::init(&settings).unwrap();
    for _ in 0..3_000 {
        tracing::error!("{:01000}", 0);
    }
    write_last("the last one");
    writeln!(io::stdout(), "{LOGGED}").unwrap();
    flush(limit);
}
