//! Commands to the driver of a model, and the answers to those who wait for them.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;
use tracing::Span;

use super::driver_reply::DriverReply;
use crate::{
    catalog::LoadAttempt,
    model::{Failure, LoadId, ModelId, Spec, Status, SuspendCause},
};

/// What a driver is asked to do.
#[derive(Debug)]
pub(super) enum DriverCommand {
    Load(Box<LoadCommand>),
    Unload(UnloadCommand),
    Evict(EvictCommand),
    /// The entry was changed, which the model tells already.
    EntryChanged,
    /// Kill the worker, if there is one.
    Terminate(Failure),
    /// End, if no worker lives and none is wanted, and say whether that is so.
    End(oneshot::Sender<bool>),
}

/// Load the model.
#[derive(Debug)]
pub(super) struct LoadCommand {
    /// What was registered as it was asked for.
    pub(super) spec: Arc<Spec>,
    pub(super) instruction: LoadInstruction,
    /// The call that asks.
    pub(super) span: Span,
    pub(super) reply: oneshot::Sender<LoadTicket>,
}

/// Unload the model.
#[derive(Debug)]
pub(super) struct UnloadCommand {
    pub(super) drain_timeout: Duration,
    /// The model is not to be loaded any more.
    pub(super) clear_desired: bool,
    /// Only if nobody wants the model: nobody holds it and it is not to stay loaded.
    pub(super) only_if_unneeded: bool,
    pub(super) reply: oneshot::Sender<UnloadReport>,
}

/// Unload the model if nobody uses it and nobody did for the time `idle`.
#[derive(Debug)]
pub(super) struct EvictCommand {
    pub(super) cause: SuspendCause,
    pub(super) message: String,
    pub(super) idle: Duration,
    /// Whether the model is on its way out.
    pub(super) reply: oneshot::Sender<bool>,
}

/// A load that is under way or was not needed.
#[derive(Debug)]
pub struct LoadTicket {
    /// The load.
    pub load_id: LoadId,
    /// Whether the model was READY already.
    pub already_loaded: bool,
    /// Where the model stands.
    pub status: Status,
    /// How the load ends; `None` when it has. No answer means that the server is going down, or the driver no longer turns.
    pub outcome: Option<DriverReply<Result<Status, Failure>>>,
}

/// What an unload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnloadReport {
    /// Whether there was a worker.
    pub was_loaded: bool,
    /// Host memory that the worker held just before the stop.
    pub host_bytes: u64,
    /// Device memory that came back.
    pub device_bytes: u64,
    /// How that was verified.
    pub verification: Verification,
    /// Whether the worker had to be killed.
    pub killed: bool,
}

/// How an unload was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// There was nothing to verify.
    Nothing,
    /// The worker was reaped.
    Reaped,
    /// The device was seen to have its memory back.
    DeviceObserved,
    /// The same, but other processes changed what it has free meanwhile.
    SharedDevice,
    /// The device was not seen to have its memory back, or the worker could not be reaped.
    TimedOut,
}

/// A worker that a load is to replace, as it was found before the load was dispatched.
#[derive(Clone, Debug)]
pub(super) struct Replacement {
    /// The model that had it.
    pub(super) model: ModelId,
    /// The load that gave the model this worker; `None`: none served.
    pub(super) load: Option<LoadId>,
    /// What was inspected to be loaded instead; `None`: none served, so that nothing had to be.
    pub(super) inspected: Option<Arc<Spec>>,
}

/// What a driver is to do about a load.
#[derive(Clone, Debug)]
pub(super) struct LoadInstruction {
    /// What serves is to go, so that the model is loaded anew.
    pub(super) replaces: Option<Replacement>,
    pub(super) timeout: Duration,
    pub(super) may_evict: bool,
    /// What ended earlier workers may be tried again.
    pub(super) clear_fatal_prompt: bool,
    /// The server died in this attempt, which counts.
    pub(super) crashed: Option<LoadAttempt>,
}

impl UnloadCommand {
    /// Unload within `drain_timeout`, whatever was asked for.
    pub(super) fn new(drain_timeout: Duration, reply: oneshot::Sender<UnloadReport>) -> Self {
        Self {
            drain_timeout,
            clear_desired: false,
            only_if_unneeded: false,
            reply,
        }
    }

    /// As [`Self::new`], if nobody wants the model by the time that its driver hears of it.
    pub(super) fn only_if_unneeded(
        drain_timeout: Duration,
        reply: oneshot::Sender<UnloadReport>,
    ) -> Self {
        Self {
            only_if_unneeded: true,
            ..Self::new(drain_timeout, reply)
        }
    }
}

impl UnloadReport {
    /// Of a model that was not loaded.
    pub(super) fn nothing() -> Self {
        Self {
            was_loaded: false,
            host_bytes: 0,
            device_bytes: 0,
            verification: Verification::Nothing,
            killed: false,
        }
    }
}

impl LoadInstruction {
    /// A load that nobody but the server asks for.
    pub(super) fn by_the_server(timeout: Duration) -> Self {
        Self {
            replaces: None,
            timeout,
            may_evict: false,
            clear_fatal_prompt: false,
            crashed: None,
        }
    }
}
