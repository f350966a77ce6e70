//! Sessions: models that are held for as long as a client lives.
//!
//! A session lives in memory. One task waits for the next one that lapses; whoever lapses or closes lets go
//! of its models, and what nobody holds and nobody asked for otherwise is unloaded.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::Instant};

use super::{
    context::Context,
    desired_state::{DesiredState, LockedModel},
    holders::Holder,
    session_id::{SessionId, SessionName},
};
use crate::{model::ModelId, supervisor::LivenessProbe};

/// A session.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldSession {
    /// Its key.
    pub id: SessionId,
    /// Its name among the holders of a model.
    pub name: SessionName,
    /// How long it lives after it was opened or kept alive.
    pub ttl: Duration,
    /// When it was opened.
    pub created: SystemTime,
    /// When it lapses.
    pub expires: SystemTime,
    /// Models that it holds, by id.
    pub models: Vec<ModelId>,
}

/// No session of this id is open. The id is not repeated: another server may know it.
#[derive(Debug, thiserror::Error)]
#[error(
    "no session of this id is open; it was closed, has lapsed, or the server was restarted: create a new one"
)]
pub struct UnknownSession;

/// There are as many sessions as there may be.
#[derive(Debug, thiserror::Error)]
#[error("there are {0} sessions already")]
pub struct TooManySessions(pub usize);

/// The sessions that are open.
pub(super) struct Sessions {
    context: Arc<Context>,
    desired_state: Arc<DesiredState>,
    open: Mutex<BTreeMap<SessionId, OpenSession>>,
    changed: Notify,
}

#[derive(Clone, Debug)]
struct OpenSession {
    name: SessionName,
    ttl: Duration,
    created: SystemTime,
    expires: Instant,
}

/// Between two turns of the task that ends sessions, at most.
pub(super) const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);

/// Sessions at the same time.
const MAX_SESSIONS: usize = 10_000;

impl Sessions {
    /// No session is open yet.
    pub(super) fn new(context: Arc<Context>, desired_state: Arc<DesiredState>) -> Arc<Self> {
        Arc::new(Self {
            context,
            desired_state,
            open: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Opens a session that lives for `ttl` after each sign of life. Its name begins with `display_name`, if that
    /// is not empty.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub(super) fn open(
        &self,
        ttl: Duration,
        display_name: &str,
    ) -> Result<HoldSession, TooManySessions> {
        let id = SessionId::random();
        let open = OpenSession {
            name: SessionName::new(display_name),
            ttl,
            created: SystemTime::now(),
            expires: Instant::now() + ttl,
        };
        let mut sessions = self.lock();
        if sessions.len() >= MAX_SESSIONS {
            return Err(TooManySessions(MAX_SESSIONS));
        }
        sessions.insert(id.clone(), open.clone());
        drop(sessions);
        self.changed.notify_one();
        Ok(self.session(id, open))
    }

    /// Starts the time to live of the session `id` anew.
    ///
    /// # Errors
    ///
    /// When there is no such session.
    pub(super) fn keep_alive(&self, id: &SessionId) -> Result<HoldSession, UnknownSession> {
        let mut sessions = self.lock();
        let open = sessions.get_mut(id).ok_or(UnknownSession)?;
        open.expires = Instant::now() + open.ttl;
        let open = open.clone();
        drop(sessions);
        Ok(self.session(id.clone(), open))
    }

    /// The session `id`.
    ///
    /// # Errors
    ///
    /// When there is no such session.
    pub(super) fn get(&self, id: &SessionId) -> Result<HoldSession, UnknownSession> {
        let open = self.find(id)?;
        Ok(self.session(id.clone(), open))
    }

    /// Closes the session `id` and gives the models that are unloaded for it.
    ///
    /// # Errors
    ///
    /// When there is no such session.
    pub(super) fn close(&self, id: &SessionId) -> Result<Vec<ModelId>, UnknownSession> {
        let removed = self.lock().remove(id);
        let closed = removed.ok_or(UnknownSession)?;
        Ok(self.release_holds(closed.name))
    }

    /// The session `id` holds `model` from now on. Says whether it did not before.
    pub(super) fn hold(
        &self,
        id: &SessionId,
        model: &LockedModel<'_>,
    ) -> Result<(Holder, bool), UnknownSession> {
        let sessions = self.lock();
        let open = sessions.get(id).ok_or(UnknownSession)?;
        // Under the lock: a session that lapses this moment lets go of this model too.
        let holder = Holder::Session(open.name.clone());
        let is_new = model.hold(holder.clone());
        Ok((holder, is_new))
    }

    /// Ends sessions that lapse, until the fleet closes.
    pub(super) async fn expire(self: Arc<Self>, probe: LivenessProbe) {
        loop {
            probe.mark_alive();
            let next = self.next_expiry();
            tokio::select! {
                () = self.context.closing.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(EXPIRY_INTERVAL) => {}
                () = until(next) => {
                    for name in self.remove_expired() {
                        let unloading = self.release_holds(name.clone());
                        tracing::info!(session = %name, models = unloading.len(), "session lapsed");
                    }
                }
            }
        }
    }

    /// Lets go of the models of a session that has ended. Gives those that are unloaded for it, as nobody else wants them.
    fn release_holds(&self, session: SessionName) -> Vec<ModelId> {
        let holder = Holder::Session(session);
        let mut models = self.context.holders.held_by(&holder);
        models.retain(|model| self.desired_state.release(model, &holder));
        models
    }

    fn find(&self, id: &SessionId) -> Result<OpenSession, UnknownSession> {
        self.lock().get(id).cloned().ok_or(UnknownSession)
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.lock().values().map(|open| open.expires).min()
    }

    fn remove_expired(&self) -> Vec<SessionName> {
        let now = Instant::now();
        let mut sessions = self.lock();
        let expired = sessions.extract_if(.., |_, open| open.expires <= now);
        expired.map(|(_, open)| open.name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, OpenSession>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, id: SessionId, open: OpenSession) -> HoldSession {
        let left = open.expires.saturating_duration_since(Instant::now());
        HoldSession {
            models: self
                .context
                .holders
                .held_by(&Holder::Session(open.name.clone())),
            id,
            name: open.name,
            ttl: open.ttl,
            created: open.created,
            expires: SystemTime::now() + left,
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
