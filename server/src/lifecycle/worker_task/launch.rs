//! What a worker is started for, and with what.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::Span;

use super::super::{
    context::Context,
    gpu::{Gpu, ONLY_GPU},
};
use crate::{
    catalog::LoadAttempt,
    model::{DeviceName, ModelId, Spec},
    worker::{ModelFiles, WorkerConfig, WorkerProgram},
};

/// What a run is for.
#[derive(Debug)]
pub(in crate::lifecycle) struct WorkerLaunch {
    pub(in crate::lifecycle) model: ModelId,
    /// As it was asked for.
    pub(in crate::lifecycle) spec: Spec,
    /// Its files, where they were downloaded; `None`: they are where the spec says.
    pub(in crate::lifecycle) downloaded: Option<ModelFiles>,
    /// The device, as the worker sees it.
    pub(in crate::lifecycle) device: DeviceName,
    /// Socket for the worker to listen on.
    pub(in crate::lifecycle) socket: PathBuf,
    /// Which worker.
    pub(in crate::lifecycle) program: WorkerProgram,
    /// The attempt, which is written down before the worker is started.
    pub(in crate::lifecycle) attempt: Option<LoadAttempt>,
    /// The load's.
    pub(in crate::lifecycle) span: Span,
}

/// The files that a worker is to read, all links resolved.
pub(super) struct FoundFiles {
    /// The spec, with the paths of its tokenizer and its adapters.
    pub(super) spec: Spec,
    /// Those of the model itself.
    pub(super) files: ModelFiles,
}

/// Distinguishes the sockets of this server's workers.
static SOCKETS: AtomicU64 = AtomicU64::new(0);

impl WorkerLaunch {
    /// A worker for the model `id` of `spec`, whose files were `downloaded` if they had to be, on `gpu`; `None`: on the
    /// CPU. It counts as no attempt.
    pub(in crate::lifecycle) fn new(
        context: &Arc<Context>,
        id: &ModelId,
        spec: &Spec,
        gpu: Option<&Gpu>,
        downloaded: Option<ModelFiles>,
    ) -> Self {
        let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
        let (program, device) = match gpu {
            None => (context.program.clone(), DeviceName::Cpu),
            Some(gpu) => (context.cuda_program(gpu), ONLY_GPU),
        };
        Self {
            model: id.clone(),
            spec: spec.clone(),
            downloaded,
            device,
            socket: context.runtime_dir.join(format!("w{number}.sock")),
            program,
            attempt: None,
            span: Span::none(),
        }
    }

    /// All that the worker is told, once its files were `found`.
    pub(super) fn config(&self, context: &Context, found: FoundFiles) -> WorkerConfig {
        let FoundFiles { spec, files } = found;
        let prepared = context.prepared.as_ref();
        let limit = context.limits.max_concurrency;
        WorkerConfig {
            model: self.model.clone(),
            prepared: prepared.and_then(|cache| cache.access_for(&spec)),
            max_concurrency: spec.max_concurrency.unwrap_or(limit),
            spec,
            files,
            device: self.device.clone(),
            socket: self.socket.clone(),
            common: context.worker_config.clone(),
        }
    }
}
