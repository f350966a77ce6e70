//! What workers write, into the server's log.
//!
//! A pipe that nobody reads blocks its writer, so a worker's output is read for the worker's whole life,
//! also when it floods: beyond a rate its lines are counted, not logged.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::telemetry::shorten;

/// The last lines that a worker wrote.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Nothing more comes from the standard error.
    complete: CancellationToken,
}

/// A line that hangar-worker writes.
#[derive(Deserialize)]
struct Line {
    level: String,
    target: String,
    fields: serde_json::Map<String, serde_json::Value>,
}

/// Lines that are kept for a failure's message.
const TAIL: usize = 8;

/// Longest line in bytes; what is longer is cut.
const MAX_LINE: usize = 4096;

/// Lines that are logged in a second.
const LINES_A_SECOND: u32 = 200;

/// Logs what comes from `pipe` until it is closed.
pub(super) async fn drain(pipe: impl AsyncRead + Unpin, tail: Tail) {
    let mut pipe = BufReader::new(pipe);
    let mut limiter = RateLimiter::new();
    let mut line = Vec::new();
    loop {
        let (used, complete) = match pipe.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(buffer) => {
                let end = buffer.iter().position(|byte| *byte == b'\n');
                let part = &buffer[..end.unwrap_or(buffer.len())];
                line.extend_from_slice(&part[..part.len().min(MAX_LINE - line.len())]);
                (end.map_or(buffer.len(), |end| end + 1), end.is_some())
            }
        };
        pipe.consume(used);
        if complete {
            write(&line, &tail, &mut limiter);
            line.clear();
        }
    }
    if !line.is_empty() {
        write(&line, &tail, &mut limiter);
    }
    limiter.report();
}

/// As [`drain`], for a pipe that brings the last words.
pub(super) async fn drain_to_end(pipe: impl AsyncRead + Unpin, tail: Tail) {
    let _complete = tail.complete.clone().drop_guard();
    drain(pipe, tail).await;
}

fn write(line: &[u8], tail: &Tail, limiter: &mut RateLimiter) {
    let text = String::from_utf8_lossy(line);
    let text = shorten(text.trim_end());
    let text = text.as_ref();
    if text.is_empty() || !limiter.admits() {
        return;
    }
    let Ok(line) = serde_json::from_str::<Line>(text) else {
        tail.push(text);
        tracing::info!(target: "hangar::worker", "{text}");
        return;
    };
    let mut fields = line.fields;
    let message = fields
        .remove("message")
        .and_then(|m| m.as_str().map(ToOwned::to_owned))
        .unwrap_or_default();
    let source = line.target;
    let rest = (!fields.is_empty()).then(|| serde_json::Value::from(fields).to_string());
    match line.level.as_str() {
        "ERROR" => {
            tail.push(&message);
            tracing::error!(target: "hangar::worker", source, fields = rest, "{message}");
        }
        "WARN" => tracing::warn!(target: "hangar::worker", source, fields = rest, "{message}"),
        "INFO" => tracing::info!(target: "hangar::worker", source, fields = rest, "{message}"),
        _ => tracing::debug!(target: "hangar::worker", source, fields = rest, "{message}"),
    }
}

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// Waits until all last words are there. Safe to cancel.
    pub(super) async fn complete(&self) {
        self.complete.cancelled().await;
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

/// Counts the lines of a second.
struct RateLimiter {
    began: Instant,
    lines: u32,
}

impl RateLimiter {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            lines: 0,
        }
    }

    fn admits(&mut self) -> bool {
        if self.began.elapsed() >= Duration::from_secs(1) {
            self.report();
            *self = Self::new();
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= LINES_A_SECOND
    }

    fn report(&self) {
        let dropped = self.lines.saturating_sub(LINES_A_SECOND);
        if dropped > 0 {
            tracing::warn!(target: "hangar::worker", dropped, "the worker writes too much; lines were left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    async fn a_flood_is_read_to_its_end_and_its_tail_is_kept_short() {
        let tail = Tail::default();
        let flood: Vec<u8> = (0..100_000)
            .flat_map(|n| format!("line {n}\n").into_bytes())
            .collect();
        drain(&*flood, tail.clone()).await;
        assert_eq!(tail.lines().len(), TAIL);
    }

    #[bounded::test]
    async fn a_line_without_end_is_cut() {
        let tail = Tail::default();
        drain(&*vec![b'x'; 10 * MAX_LINE], tail.clone()).await;
        assert_eq!(
            tail.lines().iter().map(String::len).collect::<Vec<_>>(),
            [MAX_LINE]
        );
    }
}
