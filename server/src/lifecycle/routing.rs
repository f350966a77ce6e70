//! The way of a request from the name of a model to the right to use its worker.
//!
//! A model that is loaded on demand is loaded first. A request whose model turns it away, because its alias
//! moved or it was evicted meanwhile, goes on to where the name leads now, but not for ever.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    admission::{NotAdmitted, Permit},
    context::{Context, FindError, UnknownModel},
    known_kind::KnownKind,
    loader::Loader,
    switch::Switcher,
    tracked_model::TrackedModel,
    usage::RequestRecord,
};
use crate::{
    catalog::{CatalogEntry, StorageError},
    model::{Failure, ModelId, Operation, Reason, StateKind},
};

/// A request that the engine of a model is to answer.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// An id or an alias.
    pub name: ModelId,
    /// What it asks for.
    pub operation: Operation,
    /// Of the requests that wait, the highest goes first.
    pub priority: i32,
    /// When its caller gives up.
    pub deadline: Option<Instant>,
}

/// A request that may use the worker of its model.
#[derive(Debug)]
pub struct Admitted {
    /// The right to use it.
    pub permit: Permit,
    /// Counts the request.
    pub record: RequestRecord,
}

/// A request that was not admitted.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(
    test,
    derive(strum::EnumDiscriminants),
    strum_discriminants(
        name(RoutingErrorKind),
        doc = "Errors without their data.",
        derive(strum::VariantArray)
    )
)]
pub enum RoutingError {
    /// No such model, or the catalog cannot be read.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The model is not loaded.
    #[error("model {model} is not loaded")]
    NotLoaded {
        /// The model.
        model: ModelId,
        /// Why, in words, where that is known.
        why: Option<String>,
    },
    /// The model is loading.
    #[error("model {model} is loading")]
    Loading {
        /// The model.
        model: ModelId,
        /// When to try again.
        retry: Duration,
    },
    /// As many requests wait as may.
    #[error("{limit} requests wait already")]
    QueueFull {
        /// How many that is.
        limit: u32,
    },
    /// The model cannot do that, or its load or its worker failed.
    #[error("{0}")]
    Failed(Failure),
    /// The caller's deadline passed.
    #[error("the deadline has passed")]
    DeadlineExceeded,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// How often a request goes elsewhere, or loads its model anew, before it is turned away.
const MAX_REROUTES: usize = 3;

/// When to ask again for a model that loads without an estimate.
const LOADING_RETRY: Duration = Duration::from_secs(1);

/// Finds the way of requests.
pub(super) struct Router {
    context: Arc<Context>,
    loader: Arc<Loader>,
    switcher: Arc<Switcher>,
}

impl Router {
    pub(super) fn new(context: Arc<Context>, loader: Arc<Loader>, switcher: Arc<Switcher>) -> Self {
        Self {
            context,
            loader,
            switcher,
        }
    }

    /// Admits `request`, and has its model loaded first where that is loaded on demand. Safe to cancel: a load
    /// goes on.
    ///
    /// # Errors
    ///
    /// See [`RoutingError`].
    pub(super) async fn admit(&self, request: &ModelRequest) -> Result<Admitted, RoutingError> {
        let ModelRequest {
            name,
            operation,
            priority,
            deadline,
        } = request;
        let asked = Some(*operation);
        let mut model = within(*deadline, self.model_for(name, asked)).await?;
        let mut record = model.begin_request(*operation);
        let mut reroutes = 0;
        let error = loop {
            let admit = async { self.permit_or_error(&model, model.admit(*priority).await) };
            let refused = match within(*deadline, admit).await {
                Ok(permit) => return Ok(Admitted { permit, record }),
                Err(error) => error,
            };
            if reroutes == MAX_REROUTES || !self.may_go_on(&model, name, &refused) {
                break refused;
            }
            reroutes += 1;
            match within(*deadline, self.instead_of(&model, name, asked)).await {
                Ok(Some(now)) => model = now,
                Ok(None) => break refused,
                Err(error) => break error,
            }
            record.turn_away();
            record = model.begin_request(*operation);
        };
        if error.is_closed() || matches!(error, RoutingError::ShuttingDown) {
            record.turn_away();
        } else {
            record.fail(error.reason());
        }
        Err(error)
    }

    /// Admits a call to the model behind `name` that the engine has no part in. Safe to cancel.
    ///
    /// # Errors
    ///
    /// See [`RoutingError`].
    pub(super) async fn admit_without_engine(
        &self,
        name: &ModelId,
    ) -> Result<Permit, RoutingError> {
        let mut model = self.model_for(name, None).await?;
        for _ in 0..MAX_REROUTES {
            match self.permit_or_error(&model, model.admit_without_engine().await) {
                Err(error) if self.may_go_on(&model, name, &error) => {
                    model = self.instead_of(&model, name, None).await?.ok_or(error)?;
                }
                other => return other,
            }
        }
        self.permit_or_error(&model, model.admit_without_engine().await)
    }

    /// The model that `name` stands for, if it can do what `operation` asks. One that is loaded on demand is
    /// loaded first.
    async fn model_for(
        &self,
        name: &ModelId,
        operation: Option<Operation>,
    ) -> Result<Arc<TrackedModel>, RoutingError> {
        if let Some(model) = self.context.tracked(name) {
            check_kind(model.kind(), operation)?;
            self.check_not_replaced(&model)?;
            if model.status().state != StateKind::Ready && may_load_on_demand(&model) {
                self.load_for_request(&model.facts().entry).await?;
                check_kind(model.kind(), operation)?;
            }
            return Ok(model);
        }
        let entry = self.context.find(name).await?;
        check_kind(KnownKind::of_entry(&entry), operation)?;
        if !entry.spec.load_on_demand {
            return Err(RoutingError::NotLoaded {
                model: entry.id,
                why: entry.suspended.map(|suspension| suspension.message),
            });
        }
        self.load_for_request(&entry).await?;
        let model = self
            .context
            .tracked(name)
            .ok_or(RoutingError::ShuttingDown)?;
        check_kind(model.kind(), operation)?;
        Ok(model)
    }

    /// Refuses what would bring `model` back while a switch has unloaded it to make room for another.
    fn check_not_replaced(&self, model: &TrackedModel) -> Result<(), RoutingError> {
        if model.status().state == StateKind::Ready {
            return Ok(());
        }
        let Some(new) = self.switcher.replaced_by(model.id()) else {
            return Ok(());
        };
        let status = self.context.tracked(&new).map(|new| new.status());
        let eta = status.and_then(|status| status.progress?.eta);
        Err(RoutingError::Loading {
            model: new,
            retry: eta.unwrap_or(LOADING_RETRY),
        })
    }

    /// The model to try after `model`, which stands behind `name`, has turned a request away: its alias may
    /// have moved, or it may have been evicted, while the request was on its way.
    async fn instead_of(
        &self,
        model: &TrackedModel,
        name: &ModelId,
        operation: Option<Operation>,
    ) -> Result<Option<Arc<TrackedModel>>, RoutingError> {
        if self.context.catalog.resolve(name) != *model.id() {
            return self.model_for(name, operation).await.map(Some);
        }
        self.check_not_replaced(model)?;
        if !may_load_on_demand(model) {
            // It may serve again already.
            let ready = model.status().state == StateKind::Ready;
            return Ok(self.context.tracked(name).filter(|_| ready));
        }
        self.load_for_request(&model.facts().entry).await?;
        Ok(self.context.tracked(name))
    }

    /// Whether a request for `name` that `model` has `refused` may be answered by another, or by the same one later. One
    /// that waited for a model that was unloaded may where its name leads elsewhere now, or the model serves again.
    fn may_go_on(&self, model: &TrackedModel, name: &ModelId, refused: &RoutingError) -> bool {
        let is_there_another = || {
            self.context.catalog.resolve(name) != *model.id()
                || self.switcher.replaced_by(model.id()).is_some()
                || model.status().state == StateKind::Ready
        };
        refused.is_closed() || (refused.is_unload() && is_there_another())
    }

    async fn load_for_request(&self, entry: &CatalogEntry) -> Result<(), RoutingError> {
        let loaded = self.loader.load_on_demand(entry).await;
        loaded.map_err(RoutingError::Failed)
    }

    fn permit_or_error(
        &self,
        model: &TrackedModel,
        admitted: Result<Permit, NotAdmitted>,
    ) -> Result<Permit, RoutingError> {
        match admitted {
            Ok(permit) => Ok(permit),
            Err(_) if self.context.is_closing() => Err(RoutingError::ShuttingDown),
            Err(NotAdmitted::QueueFull { limit }) => Err(RoutingError::QueueFull { limit }),
            Err(NotAdmitted::CutOff(failure)) => Err(cut_off(model, failure)),
            Err(NotAdmitted::Closed) => Err(closed(model)),
        }
    }
}

impl RoutingError {
    /// The name of its value of `hangar.v1.ErrorReason`, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Find(FindError::Unknown(UnknownModel { .. })) => "MODEL_NOT_FOUND",
            Self::Find(FindError::Storage(StorageError::Full)) => Reason::StorageFull.name(),
            Self::Find(FindError::Storage(StorageError::Failed(_))) => Reason::Internal.name(),
            Self::NotLoaded { .. } => "MODEL_NOT_LOADED",
            Self::Loading { .. } => "MODEL_LOADING",
            Self::QueueFull { .. } => "QUEUE_FULL",
            Self::Failed(failure) => failure.reason.public().name(),
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::ShuttingDown => Reason::ShuttingDown.name(),
        }
    }

    /// Whether the model does not serve just now: another may, or the same one later.
    fn is_closed(&self) -> bool {
        matches!(self, Self::NotLoaded { .. } | Self::Loading { .. })
    }

    /// Whether the model was unloaded while the request waited.
    fn is_unload(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.reason == Reason::ModelUnloaded)
    }
}

/// What a caller hears whose request waited for `model` until that was cut off for `failure`. It did not begin: where the
/// model is loaded anew, that is what there is to wait for.
fn cut_off(model: &TrackedModel, failure: Failure) -> RoutingError {
    if failure.reason != Reason::ModelUnloaded {
        return RoutingError::Failed(failure);
    }
    match closed(model) {
        loading @ RoutingError::Loading { .. } => loading,
        _ => RoutingError::Failed(failure),
    }
}

/// What a caller hears of a model whose gate is closed.
fn closed(model: &TrackedModel) -> RoutingError {
    let status = model.status();
    let name = model.id().clone();
    if status.state.is_loading() || status.next_load.is_some() {
        let until = |time: SystemTime| time.duration_since(SystemTime::now()).ok();
        let took = model.facts().learned.metadata.load_duration;
        let retry = status
            .next_retry
            .and_then(until)
            .or(status.progress.and_then(|progress| progress.eta))
            // How long a drain takes is not known; how long the load takes that follows may be.
            .or(took.filter(|_| !status.state.is_loading()))
            .unwrap_or(LOADING_RETRY);
        return RoutingError::Loading { model: name, retry };
    }
    let why = match (&status.failure, &status.suspended) {
        (Some(failure), _) => Some(format!("its last load failed: {failure}")),
        (None, Some(suspension)) => Some(suspension.message.clone()),
        (None, None) => None,
    };
    RoutingError::NotLoaded { model: name, why }
}

/// Whether a request may load `model`. One that has failed is not tried again and again, unless there was
/// just no room for it.
fn may_load_on_demand(model: &TrackedModel) -> bool {
    let status = model.status();
    let starved = |failure: &Failure| failure.reason == Reason::InsufficientMemory;
    let given_up =
        status.state == StateKind::Failed && !status.failure.as_ref().is_some_and(starved);
    model.facts().entry.spec.load_on_demand && !given_up
}

/// Refuses what a model of this kind cannot do. What it was for when it was loaded last is no reason: the load that the request
/// needs says what it is for by now.
fn check_kind(known: KnownKind, operation: Option<Operation>) -> Result<(), RoutingError> {
    match (known, operation) {
        (KnownKind::Certain(_), Some(operation)) => {
            known.check(operation).map_err(RoutingError::Failed)
        }
        _ => Ok(()),
    }
}

/// `work`, if it ends before `deadline`.
///
/// # Errors
///
/// Those of `work`, and [`RoutingError::DeadlineExceeded`].
pub async fn within<T, E: From<RoutingError>>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work)
            .await
            .map_err(|_| RoutingError::DeadlineExceeded)?,
        None => work.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelKind;

    #[bounded::test]
    fn vectors_and_text_are_of_different_models() {
        use Operation::{Chat, Embeddings, TextCompletion};
        for (kind, operation, right) in [
            (None, Some(Embeddings), true),
            (None, Some(Chat), true),
            (Some(ModelKind::Embedding), None, true),
            (Some(ModelKind::Embedding), Some(Embeddings), true),
            (Some(ModelKind::Embedding), Some(Chat), false),
            (Some(ModelKind::Embedding), Some(TextCompletion), false),
            (Some(ModelKind::Text), Some(TextCompletion), true),
            (Some(ModelKind::Text), Some(Embeddings), false),
            (Some(ModelKind::Multimodal), Some(Embeddings), false),
        ] {
            let known = kind.map_or(KnownKind::Unknown, KnownKind::Certain);
            let checked = check_kind(known, operation).is_ok();
            assert_eq!(checked, right, "{kind:?} {operation:?}");
        }
    }

    #[bounded::test]
    fn a_kind_of_earlier_files_keeps_nobody_from_loading_those_of_now() {
        let known = KnownKind::Remembered(ModelKind::Embedding);
        assert!(check_kind(known, Some(Operation::Chat)).is_ok());
    }
}
