//! A look at a model's files ahead of a reload, while the worker that serves goes on.
//!
//! Only workers read model files: one is started for the inspection alone and ends before it would build an
//! engine, so that it takes no memory that anybody has to be admitted with.

mod queue;

use std::{sync::Arc, time::Duration};

use queue::InspectionQueue;
pub use queue::TooManyReloads;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{
    context::Context,
    eviction::Evictor,
    file_system::TimeLimit,
    worker_task::{WorkerLaunch, WorkerReport, WorkerTask},
};
use crate::{
    download::DownloadProgress,
    model::{Failure, ModelId, Reason, Source, Spec},
    worker::{Inspection, ModelFiles},
};

/// Looks ahead of reloads, a few at the same time.
pub(super) struct Inspector {
    context: Arc<Context>,
    queue: Arc<InspectionQueue>,
}

/// Why a model is not loaded anew.
#[derive(Debug)]
pub(super) enum ReloadRefused {
    /// It cannot be, or nobody could look.
    Unfit(Failure),
    /// Nobody can look for now.
    TooMany(TooManyReloads),
}

impl Inspector {
    /// Inspections at the same time.
    pub(super) const AT_ONCE: usize = queue::AT_ONCE;

    pub(super) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            queue: Arc::default(),
        }
    }

    /// Whether the model `id` can be loaded as `spec` says once it has gone, as far as an inspection of its files
    /// tells, and what there is of memory. Files of the hub are downloaded for it, and others are waited for, within
    /// `time`. Ends with the inspection, or when that takes too long; goes on when the caller stops waiting.
    ///
    /// # Errors
    ///
    /// What the worker found, or why none could look; or that as many wait as may.
    pub(super) async fn inspect_ahead(
        &self,
        id: &ModelId,
        spec: &Spec,
        may_evict: bool,
        time: Duration,
    ) -> Result<(), ReloadRefused> {
        let limit = TimeLimit::new(time);
        let (context, id, spec) = (self.context.clone(), id.clone(), spec.clone());
        let queue = self.queue.clone();
        let inspected = self.context.tasks.finish(async move {
            let entry = queue.join().map_err(ReloadRefused::TooMany)?;
            let inspected = async {
                let files = download(&context, &spec, limit).await?;
                let permit = tokio::select! {
                    permit = timeout_at(limit.end, entry.permit()) => permit.map_err(|_| not_inspected(limit))?,
                    () = context.closing.cancelled() => return Err(unfinished(Reason::ShuttingDown)),
                };
                inspect(&context, &id, &spec, files, may_evict, permit).await
            };
            inspected.await.map_err(ReloadRefused::Unfit)
        });
        let died = || {
            Failure::new(
                Reason::Internal,
                "the inspection of the model's files ended early",
            )
        };
        let inspected = inspected.await;
        inspected.unwrap_or_else(|| Err(ReloadRefused::Unfit(died())))
    }
}

/// Brings the files of `spec` if they come from the hub, and says where they are then.
async fn download(
    context: &Context,
    spec: &Spec,
    limit: TimeLimit,
) -> Result<Option<ModelFiles>, Failure> {
    let Source::HuggingFace(hub) = &spec.source else {
        return Ok(None);
    };
    context.roots.check_hub(hub)?;
    let progress = DownloadProgress::default();
    let snapshot = tokio::select! {
        snapshot = timeout_at(limit.end, context.downloads.fetch(hub, &progress)) => snapshot,
        () = context.closing.cancelled() => return Err(unfinished(Reason::ShuttingDown)),
    };
    let snapshot = snapshot.map_err(|_| not_downloaded(limit))?;
    Ok(Some(ModelFiles::Path(snapshot?.path)))
}

async fn inspect(
    context: &Arc<Context>,
    id: &ModelId,
    spec: &Spec,
    files: Option<ModelFiles>,
    may_evict: bool,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<(), Failure> {
    let requested = spec.requested_device();
    let devices = context.devices.clone();
    // It is on its way nowhere: the inspection takes no part of a device.
    let chosen = devices
        .choose(id, &requested, |_| None, &context.memory)
        .await?;
    let gpu = chosen.map(|(gpu, _)| gpu);
    let launch = WorkerLaunch::new(context, id, spec, gpu.as_ref(), files);
    let task = WorkerTask::start(context, launch);
    let inspection = wait_for_inspection(context, task, permit).await?;
    let model = context.model(id);
    let learned = model.map(|model| model.facts().learned.clone());
    let need = context.need(spec, &learned.unwrap_or_default(), gpu, &inspection);
    let evictor = Evictor::for_model(context, spec.priority, may_evict);
    context.memory.check_again(id, &need, &evictor).await
}

/// Waits for what `task` finds, and for its end. `permit` is given back with the end of the process, if that takes
/// longer than anybody should wait for.
async fn wait_for_inspection(
    context: &Arc<Context>,
    mut task: WorkerTask,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Box<Inspection>, Failure> {
    let limits = &context.limits;
    let closing = context.closing.cancelled();
    tokio::pin!(closing);
    let mut outcome = None;
    let mut deadline = Instant::now() + limits.ready_timeout + limits.kill_timeout;
    loop {
        let report = tokio::select! {
            () = &mut closing, if outcome.is_none() => Err(Reason::ShuttingDown),
            report = timeout_at(deadline, task.next()) => report.map_err(|_| Reason::LoadStalled),
        };
        let reported = match report {
            Ok(Some(WorkerReport::Inspected { inspection, .. })) => Ok(inspection),
            Ok(Some(WorkerReport::Fault(failure))) => Err(failure),
            Ok(Some(WorkerReport::Exited(failure))) => return outcome.unwrap_or(Err(failure)),
            Ok(Some(_)) => continue,
            Ok(None) => return outcome.unwrap_or_else(|| Err(unfinished(Reason::WorkerDied))),
            Err(reason) => Err(unfinished(reason)),
        };
        if let Some(outcome) = outcome.take_if(|_| Instant::now() >= deadline) {
            // It was killed and does not go: nobody has to wait for that, but those who would start another.
            keep_until_reaped(context, task, permit);
            return outcome;
        }
        outcome.get_or_insert(reported);
        deadline = Instant::now() + limits.kill_timeout;
        task.kill();
    }
}

/// Gives `permit` back once the worker of `task`, which was killed, has gone, or the server ends.
fn keep_until_reaped(
    context: &Arc<Context>,
    mut task: WorkerTask,
    permit: Option<OwnedSemaphorePermit>,
) {
    let ends = context.end_drivers.clone();
    context.tasks.background("inspection-end", async move {
        let reaped = async { while task.next().await.is_some() {} };
        tokio::select! {
            () = reaped => {}
            () = ends.cancelled() => {}
        }
        drop(permit);
    });
}

fn not_downloaded(limit: TimeLimit) -> Failure {
    let message = format!(
        "the model's files were not downloaded within {:.1} s; what has come is kept: load again, or with a longer \
         timeout",
        limit.time.as_secs_f64()
    );
    Failure::new(Reason::LoadTimeout, message)
}

fn not_inspected(limit: TimeLimit) -> Failure {
    let message = format!(
        "the model's files were not inspected within {:.1} s: reloads of other models came first, or wait for file \
         systems that hang; load again, or with a longer timeout",
        limit.time.as_secs_f64()
    );
    Failure::new(Reason::LoadTimeout, message)
}

fn unfinished(reason: Reason) -> Failure {
    let message = match reason {
        Reason::ShuttingDown => "the server is shutting down",
        _ => {
            "the model's files could not be inspected in time; check that their file system answers"
        }
    };
    Failure::new(reason, message)
}
