//! One file on its way into the cache.
//!
//! A task of its own, off the threads that serve, writes and digests. The file is locked while it is open:
//! two servers on one cache do not write into it together. Whatever ends the task, what was written stays,
//! and the next one goes on behind it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{OwnedMutexGuard, mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

/// The right to change the files of a repository.
pub(super) type RepositoryGuard = Arc<OwnedMutexGuard<()>>;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct PartialFile {
    len: u64,
    commands: mpsc::Sender<WriterCommand>,
    writer: JoinHandle<Result<(), PartialFileError>>,
}

/// What a part is to become.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Where it is while it is not whole.
    pub(super) part: PathBuf,
    /// Where it is to be.
    pub(super) blob: PathBuf,
    /// Its size when it is whole.
    pub(super) size: u64,
    /// Its digest when it is whole, where that is known.
    pub(super) sha256: Option<String>,
}

/// A part that cannot be written or finished.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartialFileError {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Another process writes it.
    #[error("another process is downloading it")]
    Busy,
    /// It is not what was announced. It was removed.
    #[error("it is not what the hub announced")]
    Corrupt,
}

/// What the writer is asked for.
#[derive(Debug)]
enum WriterCommand {
    Write(Bytes),
    Restart,
    Finish,
    Discard,
}

/// The writer's side.
struct PartialFileWriter {
    file: File,
    target: Target,
    digest: Sha256,
    len: u64,
}

/// Pieces that may wait to be written.
const WRITE_QUEUE: usize = 4;

/// Piece of a part that is read at once, in bytes.
const CHUNK: usize = 1 << 20;

impl PartialFile {
    /// Opens the part, or begins one. `guard` is held until the writer has ended.
    pub(super) async fn open(
        target: Target,
        writers: &TaskTracker,
        guard: RepositoryGuard,
    ) -> Result<Self, PartialFileError> {
        let (commands, inbox) = mpsc::channel(WRITE_QUEUE);
        let (opened, len) = oneshot::channel();
        let mut writer = writers.spawn_blocking(move || {
            let ended = write(target, opened, inbox);
            drop(guard);
            ended
        });
        match len.await {
            Ok(len) => Ok(Self {
                len,
                commands,
                writer,
            }),
            Err(_) => Err(failure(&mut writer).await),
        }
    }

    /// Bytes that it has.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Appends `bytes`. Waits while the disk is slow.
    pub(super) async fn append(&mut self, bytes: Bytes) -> Result<(), PartialFileError> {
        let count = bytes.len() as u64;
        self.send(WriterCommand::Write(bytes)).await?;
        self.len += count;
        Ok(())
    }

    /// Begins from nothing.
    pub(super) async fn restart(&mut self) -> Result<(), PartialFileError> {
        self.send(WriterCommand::Restart).await?;
        self.len = 0;
        Ok(())
    }

    /// Checks it and gives it its name.
    pub(super) async fn finish(mut self) -> Result<(), PartialFileError> {
        self.send(WriterCommand::Finish).await?;
        ended((&mut self.writer).await)
    }

    /// Removes it.
    pub(super) async fn discard(mut self) -> Result<(), PartialFileError> {
        self.send(WriterCommand::Discard).await?;
        ended((&mut self.writer).await)
    }

    async fn send(&mut self, command: WriterCommand) -> Result<(), PartialFileError> {
        match self.commands.send(command).await {
            Ok(()) => Ok(()),
            Err(_) => Err(failure(&mut self.writer).await),
        }
    }
}

/// Why a writer ended too early.
async fn failure(writer: &mut JoinHandle<Result<(), PartialFileError>>) -> PartialFileError {
    match ended(writer.await) {
        Err(error) => error,
        Ok(()) => PartialFileError::Io(io::ErrorKind::BrokenPipe.into()),
    }
}

fn ended(
    end: Result<Result<(), PartialFileError>, tokio::task::JoinError>,
) -> Result<(), PartialFileError> {
    end.unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

fn write(
    target: Target,
    opened: oneshot::Sender<u64>,
    mut commands: mpsc::Receiver<WriterCommand>,
) -> Result<(), PartialFileError> {
    let mut writer = PartialFileWriter::open(target)?;
    // Whoever does not wait any more has closed the commands too.
    let _ = opened.send(writer.len);
    while let Some(command) = commands.blocking_recv() {
        match command {
            WriterCommand::Write(bytes) => writer.append(&bytes)?,
            WriterCommand::Restart => writer.restart()?,
            WriterCommand::Finish => return writer.finish(),
            WriterCommand::Discard => return Ok(fs::remove_file(&writer.target.part)?),
        }
    }
    Ok(())
}

impl PartialFileWriter {
    fn open(target: Target) -> Result<Self, PartialFileError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&target.part)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(PartialFileError::Busy),
            // A file system without locks is used by one server.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        if !is_still(&target.part, &file)? {
            return Err(PartialFileError::Busy);
        }
        let mut writer = Self {
            file,
            target,
            digest: Sha256::new(),
            len: 0,
        };
        writer.hash_existing()?;
        Ok(writer)
    }

    /// Reads what is there.
    fn hash_existing(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        if len > self.target.size {
            return self.restart();
        }
        if self.target.sha256.is_some() {
            let mut piece = vec![0; CHUNK];
            loop {
                match self.file.read(&mut piece)? {
                    0 => break,
                    count => self.digest.update(&piece[..count]),
                }
            }
        }
        self.len = self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        if self.target.sha256.is_some() {
            self.digest.update(bytes);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.digest = Sha256::new();
        self.len = 0;
        Ok(())
    }

    fn finish(self) -> Result<(), PartialFileError> {
        let found: String = self
            .digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let right = self
            .target
            .sha256
            .as_ref()
            .is_none_or(|digest| *digest == found);
        if self.len != self.target.size || !right {
            fs::remove_file(&self.target.part)?;
            return Err(PartialFileError::Corrupt);
        }
        // A name that outlives a loss of power has to have its contents.
        self.file.sync_data()?;
        fs::rename(&self.target.part, &self.target.blob)?;
        Ok(())
    }
}

/// Whether `file` is what `path` names: another process may have finished it between opening and locking.
fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(there) => Ok(there.ino() == file.metadata()?.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
