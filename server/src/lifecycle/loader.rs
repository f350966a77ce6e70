//! Loads and unloads, as they are asked for.
//!
//! Here is decided whether something may be loaded or unloaded, with the model locked from then on; the [`DesiredState`] does it.

mod all;
mod check;
mod dispatch;
mod reload;
mod unload;
mod wait;

use std::{sync::Arc, time::Duration};

pub use all::UnloadOutcome;
use futures::{StreamExt, future, stream};
pub use unload::{UnloadError, UnloadOptions};
pub use wait::WaitError;

use super::{
    command::{LoadInstruction, LoadTicket, Replacement},
    context::{Context, UnknownModel},
    desired_state::{DesiredState, LockedModel},
    inspection::{Inspector, ReloadRefused, TooManyReloads},
    session_id::SessionId,
    sessions::{Sessions, UnknownSession},
    source::SourceError,
};
use crate::{
    catalog::{CatalogEntry, OnConflict, RegisterError, StorageError},
    model::{Failure, ModelId, Reason, Source, Spec, StateKind},
};

/// Whether a model that is READY is loaded anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// It is not.
    #[default]
    Never,
    /// If its spec or its files have changed since it was loaded.
    IfOutdated,
    /// It is, and a spec that differs replaces that which is registered.
    Always,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Registers the model, or has to equal what is registered.
    pub spec: Option<Spec>,
    /// What becomes of a worker that serves.
    pub reload: Reload,
    /// Time for all attempts together.
    pub timeout: Duration,
    /// The session that holds the model; `None`: the model is to stay loaded.
    pub session: Option<SessionId>,
    /// Whether others may be evicted for it.
    pub may_evict: bool,
}

/// A load that was not begun.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such model.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// No such session.
    #[error(transparent)]
    Session(#[from] UnknownSession),
    /// The source may not be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What is to be loaded anew cannot be loaded. The model that is loaded serves on.
    #[error("{0}")]
    Unfit(Failure),
    /// Too many reloads wait already.
    #[error(transparent)]
    TooManyReloads(#[from] TooManyReloads),
    /// The spec was not registered.
    #[error(transparent)]
    Register(RegisterError),
    /// The catalog cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The model's driver panicked before it answered, or no longer turns.
    #[error("{}", Failure::of_panicked_task().message)]
    ModelTaskFailed,
}

/// A load that may be dispatched: what was checked holds for as long as the model is locked.
struct CheckedLoad<'a> {
    locked: LockedModel<'a>,
    /// The worker that is to be replaced, if one is.
    replacement: Option<Replacement>,
}

/// Loads and unloads models.
pub(super) struct Loader {
    context: Arc<Context>,
    desired_state: Arc<DesiredState>,
    sessions: Arc<Sessions>,
    inspector: Inspector,
}

/// Loads that are only checked at the same time. Those of them that inspect files wait for each other besides.
const CHECKS_AT_ONCE: usize = 16;

/// Id under which the demo model can be loaded without a spec.
const DEMO: &str = "demo";

impl Loader {
    pub(super) fn new(
        context: Arc<Context>,
        desired_state: Arc<DesiredState>,
        sessions: Arc<Sessions>,
    ) -> Arc<Self> {
        Arc::new(Self {
            inspector: Inspector::new(context.clone()),
            context,
            desired_state,
            sessions,
        })
    }

    /// What all parts of the lifecycle share.
    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What is wanted of models.
    pub(super) fn desired_state(&self) -> &Arc<DesiredState> {
        &self.desired_state
    }

    /// Loads the model that `name` stands for. Answers when its driver has taken the instruction.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub(super) async fn load(
        &self,
        name: &ModelId,
        options: LoadOptions,
    ) -> Result<LoadTicket, LoadError> {
        let checked = self.prepare_dispatch(name, &options).await?;
        let id = checked.locked.id().clone();
        let held = match &options.session {
            Some(session) => Some(self.sessions.hold(session, &checked.locked)?),
            None => None,
        };
        let ticket = self.dispatch(checked, options).await;
        if let Some((holder, is_new)) = held {
            // A session may have ended before the model's driver heard of the load.
            let ended = !self.context.holders.of(&id).contains(&holder);
            if ended {
                self.desired_state.release(&id, &holder);
            } else if is_new && ticket.as_ref().is_err_and(|error| !error.may_have_begun()) {
                // What was refused changes nothing: the model stays as it is. A driver that hangs may come to it.
                self.desired_state.release_and_keep(&id, &holder);
            }
        }
        ticket
    }

    /// Gives the instruction to the driver of the model, and waits until it has taken it.
    async fn dispatch(
        &self,
        checked: CheckedLoad<'_>,
        options: LoadOptions,
    ) -> Result<LoadTicket, LoadError> {
        let CheckedLoad {
            locked,
            replacement,
        } = checked;
        let on_conflict = OnConflict::of(options.reload == Reload::Always);
        let spec = self.spec_to_load(locked.id(), options.spec).await?;
        let spec = spec.map(|spec| (spec, on_conflict));
        let instruction = LoadInstruction {
            replaces: replacement,
            may_evict: options.may_evict,
            clear_fatal_prompt: true,
            ..LoadInstruction::by_the_server(options.timeout)
        };
        let desired = options.session.is_none();
        let queued = locked.load(spec, desired, instruction).await;
        self.ticket(queued).await
    }

    /// As [`Self::load`], for each of `names`, in their order. As many at once are inspected first as may be.
    pub(super) async fn load_each(
        &self,
        names: Vec<ModelId>,
        options: &LoadOptions,
    ) -> Vec<(ModelId, Result<LoadTicket, LoadError>)> {
        let inspects = options.reload != Reload::Never;
        let at_once = if inspects { Inspector::AT_ONCE } else { 1 };
        let load = async |name: ModelId| {
            let ticket = self.load(&name, options.clone()).await;
            (name, ticket)
        };
        let loads = stream::iter(names).map(load).buffered(at_once);
        loads.collect().await
    }

    /// As [`Self::check_load`], for each of `names`, in their order; those whose load would be refused, and why.
    pub(super) async fn check_each(
        &self,
        names: Vec<ModelId>,
        options: &LoadOptions,
    ) -> Vec<(ModelId, LoadError)> {
        let check = async |name: ModelId| {
            let refused = self.check_load(&name, options).await.err();
            refused.map(|error| (name, error))
        };
        let checks = stream::iter(names).map(check);
        let refused = checks.buffered(CHECKS_AT_ONCE).filter_map(future::ready);
        refused.collect().await
    }

    /// Loads the model of `entry` for a request that needs it, and waits until it is READY.
    ///
    /// # Errors
    ///
    /// When it does not become READY.
    pub(super) async fn load_on_demand(&self, entry: &CatalogEntry) -> Result<(), Failure> {
        let instruction = LoadInstruction {
            may_evict: true,
            ..LoadInstruction::by_the_server(self.context.limits.load_timeout)
        };
        self.load_and_wait(entry, instruction).await
    }

    /// `spec`, or that of the demo model, which need not be registered: its name is enough.
    pub(super) async fn spec_to_load(
        &self,
        name: &ModelId,
        spec: Option<Spec>,
    ) -> Result<Option<Spec>, StorageError> {
        let is_demo = spec.is_none() && name.as_str() == DEMO;
        if is_demo && self.context.catalog.get(name).await?.is_none() {
            return Ok(Some(Spec::of(Source::Demo)));
        }
        Ok(spec)
    }

    /// Why a model that is to be loaded was not registered.
    pub(super) async fn not_registered(&self, error: RegisterError) -> LoadError {
        match error {
            RegisterError::Unknown(id) => self.context.unknown(&id).await.into(),
            other => other.into(),
        }
    }

    /// Models that `all` stands for when loading: all that are registered but those that are FAILED.
    ///
    /// # Errors
    ///
    /// When the catalog cannot be read.
    pub(super) async fn loadable(&self) -> Result<Vec<ModelId>, StorageError> {
        let failed = |id: &ModelId| {
            let model = self.context.model(id);
            model.is_some_and(|model| model.status().state == StateKind::Failed)
        };
        let mut ids = self.context.catalog.ids().await?;
        ids.retain(|id| !failed(id));
        Ok(ids)
    }
}

impl LoadError {
    /// Whether the driver may have heard of the load all the same.
    fn may_have_begun(&self) -> bool {
        matches!(self, Self::ModelTaskFailed)
    }
}

impl LoadOptions {
    /// A load that takes at most `timeout`, of what is registered.
    pub fn new(timeout: Duration) -> Self {
        Self {
            spec: None,
            reload: Reload::Never,
            timeout,
            session: None,
            may_evict: true,
        }
    }
}

impl From<ReloadRefused> for LoadError {
    fn from(error: ReloadRefused) -> Self {
        match error {
            ReloadRefused::Unfit(failure) => Self::Unfit(failure),
            ReloadRefused::TooMany(error) => Self::TooManyReloads(error),
        }
    }
}

impl From<RegisterError> for LoadError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Storage(error) => Self::Storage(error),
            other => Self::Register(other),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let reason = match error {
            StorageError::Full => Reason::StorageFull,
            StorageError::Failed(_) => Reason::Internal,
        };
        Self::new(reason, error.to_string())
    }
}
