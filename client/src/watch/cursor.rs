//! Where a watch stands in the server's sequence: a pure state machine, without clock or I/O.
//!
//! Invariant: events leave in the server's order, each once. A token is taken over only together with
//! what it stands for, so that a disconnect at any point loses nothing: a snapshot that did not become
//! complete is dropped with its token.

use super::event::WatchEvent;
use crate::{
    convert::to_system_time,
    v1::{
        ChangeKind, ModelChanged, StatusSnapshot, WatchStatusResponse, watch_status_response::Event,
    },
};

/// What a response means for the watch: an event to hand out, or nothing yet.
type CursorStep = Result<Option<WatchEvent>, Hole>;

/// The sequence has a hole, for this reason: connect anew; a snapshot with `reset` will follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole(pub(super) &'static str);

/// Where a watch stands.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    /// Behind the last event that was handed out. Empty: nothing was.
    token: String,
    /// Only some models are watched, so that revisions have gaps.
    filtered: bool,
    /// Revision of the last change. `None`: unknown, as after a snapshot.
    revision: Option<u64>,
    /// Parts of a snapshot that is not complete yet.
    partial: Option<StatusSnapshot>,
    /// Events were handed out, or a token was given by the caller: a snapshot now means a loss.
    begun: bool,
}

impl Cursor {
    /// Begins behind `token`; empty: with a snapshot.
    pub(super) fn new(token: String, filtered: bool) -> Self {
        Self {
            begun: !token.is_empty(),
            token,
            filtered,
            revision: None,
            partial: None,
        }
    }

    /// What to give the server to go on. Empty: begin with a snapshot.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The connection was lost.
    pub(super) fn disconnected(&mut self) {
        self.partial = None;
    }

    /// The token is of no use: the next connection begins with a snapshot, marked as a reset.
    pub(super) fn reset(&mut self) {
        self.partial = None;
        self.revision = None;
        self.token.clear();
    }

    /// Takes the next response of the connection.
    ///
    /// Progress may have been noted before a change that was handed out already; its token would lead
    /// back to before that change and is left alone.
    pub(super) fn accept(&mut self, response: WatchStatusResponse) -> CursorStep {
        let token = response.resume_token;
        let is_late = match &response.event {
            Some(Event::Changed(changed)) => {
                self.revision.is_some_and(|last| changed.revision < last)
            }
            _ => false,
        };
        let step = match response.event {
            Some(Event::Snapshot(part)) => return self.part(part, token),
            Some(Event::Heartbeat(heartbeat)) if !self.in_snapshot() => {
                let time = heartbeat.time.as_ref().and_then(to_system_time);
                Ok(Some(WatchEvent::Heartbeat { time }))
            }
            Some(Event::Changed(_) | Event::Removed(_) | Event::Switched(_))
                if self.in_snapshot() =>
            {
                self.gap("a change came before the snapshot was complete")
            }
            Some(Event::Changed(changed)) => self.changed(changed),
            Some(Event::Removed(removed)) => {
                let revision = removed.revision;
                self.step_to(
                    revision,
                    WatchEvent::Removed {
                        revision,
                        model_id: removed.model_id,
                    },
                )
            }
            Some(Event::Switched(switched)) => {
                let revision = switched.revision;
                let switch = Box::new(switched.switch.unwrap_or_default());
                self.step_to(revision, WatchEvent::Switched { revision, switch })
            }
            // An event that is newer than this client. Its token is not taken over inside a snapshot.
            Some(Event::Heartbeat(_)) | None => Ok(None),
        };
        if step.is_ok() && !self.in_snapshot() && !token.is_empty() && !is_late {
            self.token = token;
        }
        step
    }

    /// Whether the sequence has no beginning yet.
    fn in_snapshot(&self) -> bool {
        self.partial.is_some() || self.token.is_empty()
    }

    fn part(&mut self, part: StatusSnapshot, token: String) -> CursorStep {
        let snapshot = self.partial.get_or_insert_default();
        snapshot.models.extend(part.models);
        snapshot.reset |= part.reset;
        if !part.complete {
            return Ok(None);
        }
        let StatusSnapshot { models, reset, .. } = self.partial.take().unwrap_or_default();
        let reset = reset || std::mem::replace(&mut self.begun, true);
        self.revision = None;
        self.token = token;
        Ok(Some(WatchEvent::Snapshot { models, reset }))
    }

    fn changed(&mut self, changed: ModelChanged) -> CursorStep {
        let Some(status) = changed.status.clone() else {
            return self.gap("a change came without a status");
        };
        let revision = changed.revision;
        match changed.kind() {
            ChangeKind::Progress => Ok(Some(WatchEvent::Progress { status })),
            ChangeKind::Transition => {
                self.step_to(revision, WatchEvent::Transition { revision, status })
            }
            _ => self.step_to(revision, WatchEvent::Changed(Box::new(changed))),
        }
    }

    /// Hands out the event of `revision` if it is the next one, and nothing if it was handed out before.
    fn step_to(&mut self, revision: u64, event: WatchEvent) -> CursorStep {
        match self.revision {
            Some(last) if revision <= last => return Ok(None),
            Some(last) if revision > last + 1 && !self.filtered => {
                return self.gap("the revisions have a gap");
            }
            _ => self.revision = Some(revision),
        }
        Ok(Some(event))
    }

    fn gap(&mut self, why: &'static str) -> CursorStep {
        self.reset();
        Err(Hole(why))
    }
}

#[cfg(test)]
mod tests;
