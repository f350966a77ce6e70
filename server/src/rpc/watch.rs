//! WatchStatus: what a watcher hears, as encoded responses.
//!
//! Of a snapshot, each part is encoded when it is taken: a watcher that does not read holds one, and what all share.

use std::{sync::Arc, time::SystemTime, vec};

use bytes::Bytes;
use futures::stream;
use hangar_client::v1::{
    ChangeKind, ModelChanged, ModelRemoved, ModelStatus, StatusSnapshot, SwitchChanged,
    WatchHeartbeat, WatchStatusResponse, watch_status_response::Event as Body,
};
use prost::Message;
use tonic::Status;

use super::{convert, encoded::EncodedStream, error::ApiError};
use crate::{
    failpoint,
    model::{self, Epoch, Revision},
    status::{LogChange, LogEvent, Watch, WatchItem},
    telemetry::model_metrics::WatcherGuard,
};

/// A snapshot on its way.
struct SnapshotParts {
    models: vec::IntoIter<Arc<model::Status>>,
    /// What had no room in the last part.
    next: Option<ModelStatus>,
    reset: bool,
    revision: Revision,
}

/// Size of a part of a snapshot in bytes, at most, as far as one model does not take more.
const PART: usize = 32 * 1024;

/// What the envelope of a part needs at most.
const ENVELOPE: usize = 256;

/// Between epoch and revision in a resume token.
const SEPARATOR: char = '-';

/// Where a token says that a watch had not got its snapshot whole.
const NOTHING: &str = "0x";

/// The responses of `watch`, which belongs to `epoch`. `guard` counts it for as long as it lives.
pub(super) fn responses(watch: Watch, epoch: Epoch, guard: WatcherGuard) -> EncodedStream {
    let state = Some((watch, epoch, None));
    Box::pin(stream::unfold(
        (state, guard),
        |(state, guard)| async move {
            let (mut watch, epoch, mut snapshot): (_, _, Option<SnapshotParts>) = state?;
            if let Some(parts) = &mut snapshot {
                let part = parts.next_part(&epoch);
                let rest = snapshot.filter(|parts| !parts.is_complete());
                return Some((Ok(part), (Some((watch, epoch, rest)), guard)));
            }
            let item = tokio::select! {
                item = watch.next() => item,
                never = failpoint::meets("watch-stream", None) => match never {},
            };
            let response = match item {
                WatchItem::Closed => {
                    return Some((Err(Status::from(ApiError::ShuttingDown)), (None, guard)));
                }
                WatchItem::Event(event) => event.encoded(|event| encode_event(event, &epoch)),
                WatchItem::Heartbeat { revision } => heartbeat(&epoch, revision),
                WatchItem::Snapshot {
                    models,
                    reset,
                    revision,
                } => {
                    let mut parts = SnapshotParts::new(models, reset, revision);
                    let part = parts.next_part(&epoch);
                    snapshot = Some(parts).filter(|parts| !parts.is_complete());
                    part
                }
            };
            Some((Ok(response), (Some((watch, epoch, snapshot)), guard)))
        },
    ))
}

/// The position that `token` stands for: `None` begins anew, `Some(None)` is a position that cannot be
/// resumed from.
///
/// # Errors
///
/// When it is no token.
pub(super) fn parse_token(
    token: &str,
    epoch: &Epoch,
) -> Result<Option<Option<Revision>>, ApiError> {
    if token.is_empty() {
        return Ok(None);
    }
    let (of, position) = token.split_once(SEPARATOR).ok_or(ApiError::InvalidToken)?;
    if of.len() != epoch.as_str().len() || !of.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ApiError::InvalidToken);
    }
    if position == NOTHING {
        return Ok(Some(None));
    }
    if !position.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ApiError::InvalidToken);
    }
    let revision = position
        .parse()
        .map(Revision)
        .map_err(|_| ApiError::InvalidToken)?;
    Ok(Some((of == epoch.as_str()).then_some(revision)))
}

fn token(epoch: &Epoch, revision: Revision) -> String {
    format!("{}{SEPARATOR}{}", epoch.as_str(), revision.0)
}

fn encode_event(event: &LogEvent, epoch: &Epoch) -> Bytes {
    let revision = event.revision.0;
    let changed = |kind: ChangeKind, status: &model::Status| ModelChanged {
        revision,
        kind: kind.into(),
        status: Some(convert::status(status)),
        ..ModelChanged::default()
    };
    let body = match &event.change {
        LogChange::Transition(status) => Body::Changed(changed(ChangeKind::Transition, status)),
        LogChange::Progress(status) => Body::Changed(changed(ChangeKind::Progress, status)),
        LogChange::Spec { status, version } => Body::Changed(ModelChanged {
            version: *version,
            ..changed(ChangeKind::Spec, status)
        }),
        LogChange::Aliases { status, aliases } => Body::Changed(ModelChanged {
            aliases: aliases.iter().map(ToString::to_string).collect(),
            ..changed(ChangeKind::Aliases, status)
        }),
        LogChange::Removed(id) => Body::Removed(ModelRemoved {
            model_id: id.to_string(),
            revision,
        }),
        LogChange::Switched(switch) => Body::Switched(SwitchChanged {
            revision,
            switch: Some(convert::switch(switch)),
        }),
    };
    encode(token(epoch, event.revision), body)
}

fn heartbeat(epoch: &Epoch, revision: Revision) -> Bytes {
    let time = Some(SystemTime::now().into());
    encode(
        token(epoch, revision),
        Body::Heartbeat(WatchHeartbeat { time }),
    )
}

impl SnapshotParts {
    fn new(models: Vec<Arc<model::Status>>, reset: bool, revision: Revision) -> Self {
        Self {
            models: models.into_iter(),
            next: None,
            reset,
            revision,
        }
    }

    /// Whether nothing is left for another part.
    fn is_complete(&self) -> bool {
        self.next.is_none() && self.models.as_slice().is_empty()
    }

    /// The next part. Only the last one's token resumes behind it.
    fn next_part(&mut self, epoch: &Epoch) -> Bytes {
        let mut models = Vec::new();
        let mut size = ENVELOPE;
        while let Some(model) = self.next_model() {
            size += model.encoded_len() + 8;
            if size > PART && !models.is_empty() {
                self.next = Some(model);
                break;
            }
            models.push(model);
        }
        let complete = self.is_complete();
        let token = if complete {
            token(epoch, self.revision)
        } else {
            format!("{}{SEPARATOR}{NOTHING}", epoch.as_str())
        };
        encode(
            token,
            Body::Snapshot(StatusSnapshot {
                models,
                reset: self.reset,
                complete,
            }),
        )
    }

    fn next_model(&mut self) -> Option<ModelStatus> {
        let next = self.next.take();
        next.or_else(|| self.models.next().map(|model| convert::status(&model)))
    }
}

fn encode(resume_token: String, event: Body) -> Bytes {
    WatchStatusResponse {
        resume_token,
        event: Some(event),
    }
    .encode_to_vec()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelId;

    #[bounded::test]
    fn tokens_are_read_back() {
        let epoch = Epoch::random();
        let parse = |token: &str| parse_token(token, &epoch).ok();
        assert_eq!(
            parse(&token(&epoch, Revision(7))),
            Some(Some(Some(Revision(7))))
        );
        assert_eq!(
            parse(&token(&Epoch::random(), Revision(7))),
            Some(Some(None))
        );
        assert_eq!(parse(""), Some(None));
    }

    #[bounded::test]
    fn malformed_and_foreign_tokens_are_refused() {
        let epoch = Epoch::random();
        let short = format!("{}-", epoch.as_str());
        let negative = format!("{}--1", epoch.as_str());
        for text in ["x", "-", "1-2", &short, &negative, epoch.as_str(), "zz-1"] {
            assert!(
                matches!(parse_token(text, &epoch), Err(ApiError::InvalidToken)),
                "{text}"
            );
        }
    }

    #[bounded::test]
    fn a_large_snapshot_comes_in_parts_of_which_only_the_last_can_be_resumed() {
        let epoch = Epoch::random();
        let model = |n: usize| {
            let id = ModelId::parse(&format!("model-{n:05}")).expect("an id");
            Arc::new(model::Status::unloaded(id))
        };
        let mut snapshot = SnapshotParts::new((0..1000).map(model).collect(), true, Revision(5));
        let (mut models, mut parts) = (Vec::new(), 0);
        loop {
            let part = snapshot.next_part(&epoch);
            parts += 1;
            assert!(part.len() <= PART);
            let response = WatchStatusResponse::decode(part).expect("a response");
            let resume = parse_token(&response.resume_token, &epoch).expect("a token");
            let Some(Body::Snapshot(part)) = response.event else {
                panic!("no snapshot")
            };
            assert!(part.reset);
            assert_eq!(part.complete, snapshot.is_complete());
            assert_eq!(resume, Some(part.complete.then_some(Revision(5))));
            models.extend(part.models.into_iter().map(|model| model.model_id));
            if part.complete {
                break;
            }
        }
        assert!(parts > 1);
        assert!(models.is_sorted());
        assert_eq!(models.len(), 1000);
    }
}
