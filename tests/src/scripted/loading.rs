//! A scripted load.

use std::{
    fs::File,
    future::pending,
    io::{self, Read, Write},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use hangar_worker_protocol::v1::{
    EngineBuilt, EngineWarmed, LoadResponse, WorkerFailure, load_response::Event,
};
use tonic::Status;

use super::{
    fault::broken_connection,
    gate::pass,
    script::{Flood, LoadKind},
    worker::Worker,
};
use crate::nvml_stub;

const CHUNK: usize = 64 << 10;

/// What is left of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LoadStep {
    /// All of it.
    #[default]
    Build,
    /// The first token.
    Warm,
    /// Nothing.
    End,
}

impl Worker {
    /// Does the next step of the load and gives what it ends with; nothing at the end.
    pub(super) async fn load_step(
        &self,
        step: LoadStep,
    ) -> Result<Option<(Event, LoadStep)>, Status> {
        match step {
            LoadStep::Build => self.build().await,
            LoadStep::Warm => self.warm().await.map(Some),
            LoadStep::End => Ok(None),
        }
    }

    async fn build(&self) -> Result<Option<(Event, LoadStep)>, Status> {
        let script = &self.script.load;
        pass(&self.directory, script.gate.as_deref()).await?;
        break_call(&self.breaks.0, script.breaks.0)?;
        if script.after_ms > 0 {
            tokio::time::sleep(Duration::from_millis(script.after_ms)).await;
        }
        flood(io::stderr().lock(), self.script.flood_stderr)?;
        flood(io::stdout().lock(), self.script.flood_stdout)?;
        self.take_memory(script.memory_bytes);
        if script.device_bytes > 0 {
            let taken = nvml_stub::take_as_worker(script.device_bytes);
            taken.map_err(|error| Status::internal(format!("{error:#}")))?;
            let bytes = &self.device_bytes;
            bytes.store(script.device_bytes, Ordering::Relaxed);
        }
        self.read_weights().await?;
        match &script.kind {
            LoadKind::Hang => pending().await,
            LoadKind::Spin => spin().await?,
            LoadKind::Die(fault) => fault.strike_soon().await,
            LoadKind::EndEarly => return Ok(None),
            LoadKind::Error => return Err(Status::internal("the script wants an error")),
            LoadKind::Fail { reason, message } => {
                let failure = WorkerFailure {
                    reason: reason.clone(),
                    message: message.clone(),
                };
                return Ok(Some((Event::Failed(failure), LoadStep::End)));
            }
            LoadKind::Ok | LoadKind::NeverWarm | LoadKind::DieWarming(_) => {}
        }
        let built = EngineBuilt {
            metadata: Some(self.metadata.clone()),
        };
        Ok(Some((Event::EngineBuilt(built), LoadStep::Warm)))
    }

    async fn warm(&self) -> Result<(Event, LoadStep), Status> {
        let start = Instant::now();
        match self.script.load.kind {
            LoadKind::NeverWarm => pending().await,
            LoadKind::DieWarming(fault) => fault.strike_soon().await,
            _ => pass(&self.directory, self.script.load.warm_gate.as_deref()).await?,
        }
        break_call(&self.breaks.1, self.script.load.breaks.1)?;
        let elapsed = start.elapsed().try_into().ok();
        let warmed = EngineWarmed {
            elapsed,
            ..EngineWarmed::default()
        };
        Ok((Event::Warmed(warmed), LoadStep::End))
    }

    /// Takes so much memory, in place of what it has taken before, and keeps it.
    pub(super) fn take_memory(&self, bytes: u64) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if let Ok(mut memory) = self.memory.lock() {
            // Not zero, so that the pages are really there.
            *memory = vec![1; bytes];
        }
    }

    /// Reads as many bytes as the model is said to have, so that they show in `/proc/PID/io`.
    async fn read_weights(&self) -> io::Result<()> {
        let script = &self.script.load;
        let steps = u64::from(script.steps.max(1));
        let mut zeros = File::open("/dev/zero")?;
        let mut buffer = vec![0; CHUNK];
        for step in 0..steps {
            pass(&self.directory, script.step_gate.as_deref()).await?;
            let mut left = script.bytes * (step + 1) / steps - script.bytes * step / steps;
            while left > 0 {
                let part = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                zeros.read_exact(&mut buffer[..part])?;
                left -= part as u64;
            }
        }
        Ok(())
    }
}

/// Breaks the connection of this call unless `limit` calls have done so.
fn break_call(breaks: &AtomicU32, limit: u32) -> Result<(), Status> {
    let is_left = |breaks| (breaks < limit).then_some(breaks + 1);
    match breaks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_left) {
        Ok(_) => Err(broken_connection()),
        Err(_) => Ok(()),
    }
}

/// A response of Load.
pub(super) fn response(event: Event) -> LoadResponse {
    LoadResponse { event: Some(event) }
}

async fn spin<T>() -> io::Result<T> {
    let thread = std::thread::Builder::new().name("spin".to_owned());
    let _spinning = thread.spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    })?;
    pending().await
}

/// Writes so many bytes, whatever becomes of them.
fn flood(mut output: impl Write, flood: Flood) -> io::Result<()> {
    let mut line = vec![b'x'; CHUNK];
    if flood.line > 0 {
        line.truncate(flood.line as usize);
        line.push(b'\n');
    }
    let mut left = flood.bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(line.len()).min(line.len());
        output.write_all(&line[..part])?;
        left -= part as u64;
    }
    output.flush()
}
