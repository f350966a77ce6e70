//! Sessions: models that are held for as long as a client lives.
//!
//! A session lives in memory. One task waits for the next one that lapses; whoever lapses or closes lets go
//! of its models, and what nobody holds and nobody asked for otherwise is unloaded.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use super::{
    Fleet,
    driver::{Command, UnloadCommand},
    fleet::Context,
    holds::Holder,
};
use crate::{model::ModelId, supervisor::Heart};

/// Names a session. It is a secret of its client: who knows it may close it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Arc<str>);

/// A session.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// How long it lives after it was opened or kept alive.
    pub ttl: Duration,
    /// When it was opened.
    pub created: SystemTime,
    /// When it lapses.
    pub expires: SystemTime,
    /// Models that it holds, by id.
    pub models: Vec<ModelId>,
}

/// No session of this name is open.
#[derive(Debug, thiserror::Error)]
#[error(
    "no session {0} is open; it was closed, has lapsed, or the server was restarted: create a new one"
)]
pub struct UnknownSession(pub String);

/// There are as many sessions as there may be.
#[derive(Debug, thiserror::Error)]
#[error("there are {0} sessions already")]
pub struct TooManySessions(pub usize);

/// The sessions that are open.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<BTreeMap<SessionId, Open>>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    ttl: Duration,
    created: SystemTime,
    expires: Instant,
}

/// Between two turns of the task that ends sessions, at most.
pub(super) const TURNS: Duration = Duration::from_secs(5);

/// Sessions at the same time.
const MAX_SESSIONS: usize = 10_000;

// === impl Fleet ===

impl Fleet {
    /// Opens a session that lives for `ttl` after each sign of life.
    ///
    /// # Errors
    ///
    /// When there are too many.
    pub fn open_session(&self, ttl: Duration) -> Result<Session, TooManySessions> {
        let id = SessionId(Uuid::new_v4().simple().to_string().into());
        let open = Open {
            ttl,
            created: SystemTime::now(),
            expires: Instant::now() + ttl,
        };
        let mut sessions = self.context.sessions.lock();
        if sessions.len() >= MAX_SESSIONS {
            return Err(TooManySessions(MAX_SESSIONS));
        }
        sessions.insert(id.clone(), open);
        drop(sessions);
        self.context.sessions.changed.notify_one();
        Ok(self.context.session(id, open))
    }

    /// Starts the time to live of the session `id` anew.
    ///
    /// # Errors
    ///
    /// When there is no such session.
    pub fn keep_session_alive(&self, id: &str) -> Result<Session, UnknownSession> {
        let id = SessionId(id.into());
        let mut sessions = self.context.sessions.lock();
        let open = sessions.get_mut(&id).ok_or_else(|| unknown(&id))?;
        open.expires = Instant::now() + open.ttl;
        let open = *open;
        drop(sessions);
        Ok(self.context.session(id, open))
    }

    /// The session `id`.
    ///
    /// # Errors
    ///
    /// When there is no such session.
    pub fn session(&self, id: &str) -> Result<Session, UnknownSession> {
        let id = SessionId(id.into());
        let open = self.context.sessions.find(&id)?;
        Ok(self.context.session(id, open))
    }

    /// Closes the session `id` and gives the models that are unloaded for it.
    ///
    /// # Errors
    ///
    /// When there is no such session.
    pub fn close_session(&self, id: &str) -> Result<Vec<ModelId>, UnknownSession> {
        let id = SessionId(id.into());
        let removed = self.context.sessions.lock().remove(&id);
        removed.ok_or_else(|| unknown(&id))?;
        Ok(let_go_of_all(&self.context, id))
    }

    /// The session `id` holds `model` from now on. Says whether it did not before. Only in turn with orders.
    pub(super) fn hold(&self, id: &str, model: &ModelId) -> Result<(Holder, bool), UnknownSession> {
        let id = SessionId(id.into());
        let sessions = self.context.sessions.lock();
        if !sessions.contains_key(&id) {
            return Err(unknown(&id));
        }
        // Under the lock: a session that lapses this moment lets go of this model too.
        let holder = Holder::Session(id);
        let is_new = self.context.holds.add(model, holder.clone());
        Ok((holder, is_new))
    }
}

/// Ends sessions that lapse, until the fleet closes.
pub(super) async fn expire(context: Arc<Context>, heart: Heart) {
    loop {
        heart.beat();
        let next = context.sessions.next_expiry();
        tokio::select! {
            () = context.closing.cancelled() => return,
            () = context.sessions.changed.notified() => {}
            () = tokio::time::sleep(TURNS) => {}
            () = until(next) => {
                for id in context.sessions.remove_expired() {
                    let unloading = let_go_of_all(&context, id.clone());
                    tracing::info!(session = %id, models = unloading.len(), "session lapsed");
                }
            }
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Lets go of the models of a session that has ended, and unloads those that nobody wants any more.
fn let_go_of_all(context: &Arc<Context>, id: SessionId) -> Vec<ModelId> {
    let holder = Holder::Session(id);
    let mut unloading = Vec::new();
    for model in context.holds.held_by(&holder) {
        if let_go(context, &model, &holder) {
            unloading.push(model);
        }
    }
    unloading
}

/// `holder` holds `model` no more. Unloads the model if nobody else wants it, and says whether it does.
pub(super) fn let_go(context: &Arc<Context>, model: &ModelId, holder: &Holder) -> bool {
    let free = context.holds.remove(model, holder);
    let unwanted = context
        .model(model)
        .filter(|model| free && !model.facts().desired && model.status().stage.is_active());
    let Some(unwanted) = unwanted else {
        return false;
    };
    // Somebody may come to want it before its driver hears of this.
    let (command, report) = UnloadCommand::unless_wanted(context.limits.drain_timeout);
    context.tasks.errand("session-end", async move {
        if unwanted
            .commands
            .send(Command::Unload(command))
            .await
            .is_ok()
        {
            let _ = report.await;
        }
    });
    true
}

fn unknown(id: &SessionId) -> UnknownSession {
    UnknownSession(id.to_string())
}

// === impl Sessions ===

impl Sessions {
    fn find(&self, id: &SessionId) -> Result<Open, UnknownSession> {
        self.lock().get(id).copied().ok_or_else(|| unknown(id))
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.lock().values().map(|open| open.expires).min()
    }

    fn remove_expired(&self) -> Vec<SessionId> {
        let now = Instant::now();
        let mut sessions = self.lock();
        let expired: Vec<_> = sessions
            .iter()
            .filter(|(_, open)| open.expires <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in &expired {
            sessions.remove(id);
        }
        expired
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Context ===

impl Context {
    fn session(&self, id: SessionId, open: Open) -> Session {
        let left = open.expires.saturating_duration_since(Instant::now());
        Session {
            models: self.holds.held_by(&Holder::Session(id.clone())),
            id,
            ttl: open.ttl,
            created: open.created,
            expires: SystemTime::now() + left,
        }
    }
}

// === impl SessionId ===

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
