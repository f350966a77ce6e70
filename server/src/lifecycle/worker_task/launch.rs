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
    gpu::{CPU, Gpu, ONLY_GPU},
};
use crate::{
    catalog::LoadAttempt,
    model::{ModelId, Spec},
    worker::{WorkerConfig, WorkerProgram},
};

/// What a run is for.
#[derive(Debug)]
pub(in crate::lifecycle) struct WorkerLaunch {
    /// What it hosts, and how.
    pub(in crate::lifecycle) config: WorkerConfig,
    /// Which worker.
    pub(in crate::lifecycle) program: WorkerProgram,
    /// The attempt, which is written down before the worker is started.
    pub(in crate::lifecycle) attempt: Option<LoadAttempt>,
    /// The load's.
    pub(in crate::lifecycle) span: Span,
}

/// Distinguishes the sockets of this server's workers.
static SOCKETS: AtomicU64 = AtomicU64::new(0);

impl WorkerLaunch {
    /// A worker for the model `id` of `spec` on `gpu`; `None`: on the CPU. It counts as no attempt.
    pub(in crate::lifecycle) fn new(
        context: &Arc<Context>,
        id: &ModelId,
        spec: &Spec,
        gpu: Option<&Gpu>,
    ) -> Self {
        let number = SOCKETS.fetch_add(1, Ordering::Relaxed);
        let socket: PathBuf = context.runtime_dir.join(format!("w{number}.sock"));
        let (program, device) = match gpu {
            None => (context.program.clone(), CPU),
            Some(gpu) => (context.cuda_program(gpu), ONLY_GPU),
        };
        let limit = context.limits.max_concurrency;
        Self {
            config: WorkerConfig {
                model: id.clone(),
                spec: spec.clone(),
                files: None,
                device,
                max_concurrency: spec.max_concurrency.unwrap_or(limit),
                socket,
                prepared: None,
                common: context.worker_config.clone(),
            },
            program,
            attempt: None,
            span: Span::none(),
        }
    }
}
