//! Places where a worker waits until a test lets it go on.
//!
//! A gate is a FIFO. Both sides open it for reading and writing, so that neither waits for the other
//! and no end of file comes; a byte in it lets the worker pass once.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Result;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use tokio::{io::AsyncReadExt, net::unix::pipe::OpenOptions as PipeOptions};

/// The test's side of a gate. Made closed.
#[derive(Debug)]
pub struct Gate {
    pipe: File,
}

impl Gate {
    /// Makes a closed gate in a model's directory; the script refers to it by name.
    ///
    /// # Errors
    ///
    /// When the FIFO cannot be made.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
        let pipe = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(&path)?;
        Ok(Self { pipe })
    }

    /// Lets a worker pass so many times.
    ///
    /// # Errors
    ///
    /// When the pipe is full: 65,536 passes are the most that can be saved up.
    pub fn step(&self, times: usize) -> Result<()> {
        let written = (&self.pipe).write(&vec![0; times])?;
        anyhow::ensure!(
            written == times,
            "only {written} of {times} steps fit into the gate"
        );
        Ok(())
    }

    /// Lets workers pass as often as the pipe can hold, some 60,000 times.
    ///
    /// # Errors
    ///
    /// When the pipe is broken.
    pub fn open(&self) -> Result<()> {
        match (&self.pipe).write(&[0; 60_000]) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Waits at a gate, on the worker's side. One that nobody made is open.
pub(super) async fn pass(directory: &Path, name: Option<&str>) -> io::Result<()> {
    let Some(name) = name else { return Ok(()) };
    let mut pipe = match PipeOptions::new()
        .read_write(true)
        .open_receiver(directory.join(name))
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        pipe => pipe?,
    };
    pipe.read_u8().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[hangar_tests::test]
    async fn a_step_lets_pass_once() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let gate = Gate::new(directory.path(), "gate")?;
        gate.step(1)?;
        pass(directory.path(), Some("gate")).await?;
        assert!(
            pass(directory.path(), Some("gate"))
                .now_or_never()
                .is_none()
        );
        gate.open()?;
        pass(directory.path(), Some("gate")).await?;
        pass(directory.path(), Some("no such gate")).await?;
        pass(directory.path(), None).await?;
        Ok(())
    }
}
