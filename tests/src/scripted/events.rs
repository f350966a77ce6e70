//! What a worker tells a test about what happens to it.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::unix::pipe::{OpenOptions as PipeOptions, Receiver},
};

const FILE: &str = "events";

/// What happened to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedEvent {
    /// It was started.
    Started,
    /// Load was called.
    Load,
    /// The caller of Load went away before its end.
    LoadDropped,
    /// Generate was called.
    Generate,
    /// Generate came to an end.
    GenerateDone,
    /// The caller of Generate went away before its end.
    GenerateDropped,
    /// Shutdown was called.
    Shutdown,
    /// SIGTERM came and was ignored.
    Terminate,
    /// Standard input ended.
    InputEnded,
}

/// An event and the worker that it happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptedReport {
    /// The worker's process id.
    pub pid: u32,
    /// What happened.
    pub event: ScriptedEvent,
}

/// The test's side: what all workers of a model's directory report, in order.
#[derive(Debug)]
pub struct Events {
    lines: Lines<BufReader<Receiver>>,
}

impl Events {
    /// Listens to the workers of a model's directory that start from now on.
    ///
    /// # Errors
    ///
    /// When the FIFO cannot be made. Needs a Tokio runtime.
    pub fn new(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let pipe = PipeOptions::new().read_write(true).open_receiver(&path)?;
        Ok(Self {
            lines: BufReader::new(pipe).lines(),
        })
    }

    /// Waits for the next report.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn next(&mut self) -> Result<ScriptedReport> {
        let line = self.lines.next_line().await?.context("the events ended")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits for this event, whatever comes before, and gives the process id of the worker.
    ///
    /// # Errors
    ///
    /// When the reports cannot be read.
    pub async fn until(&mut self, event: ScriptedEvent) -> Result<u32> {
        loop {
            let report = self.next().await?;
            if report.event == event {
                return Ok(report.pid);
            }
        }
    }
}

/// Reports an event, on the worker's side. Nothing happens where no test listens.
pub(super) fn report(directory: &Path, event: ScriptedEvent) {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let Ok(mut pipe) = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(directory.join(FILE))
    else {
        return;
    };
    let report = ScriptedReport {
        pid: std::process::id(),
        event,
    };
    if let Ok(mut line) = serde_json::to_vec(&report) {
        line.push(b'\n');
        // A listener that has gone meanwhile misses nothing.
        let _ = pipe.write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[hangar_tests::test]
    async fn reports_arrive_in_order() -> Result<()> {
        let directory = tempfile::tempdir()?;
        report(directory.path(), ScriptedEvent::Started);
        let mut events = Events::new(directory.path())?;
        report(directory.path(), ScriptedEvent::Load);
        report(directory.path(), ScriptedEvent::Shutdown);
        let pid = std::process::id();
        assert_eq!(
            events.next().await?,
            ScriptedReport {
                pid,
                event: ScriptedEvent::Load
            }
        );
        assert_eq!(events.until(ScriptedEvent::Shutdown).await?, pid);
        Ok(())
    }
}
