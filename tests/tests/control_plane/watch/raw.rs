//! WatchStatus over the generated stub: nothing resumes by itself and nothing is left out.

use anyhow::{Context, Result};
use hangar_client::{
    Client, Error,
    v1::{
        ChangeKind, ModelChanged, ModelStatus, StatusSnapshot, WatchStatusRequest,
        WatchStatusResponse, watch_status_response::Event,
    },
};
use hangar_tests::server::DEADLINE;
use tokio::time::timeout;
use tonic::Streaming;

/// An open watch.
#[derive(Debug)]
pub(crate) struct RawWatch {
    client: Client,
    responses: Streaming<WatchStatusResponse>,
    /// Token of the last response.
    pub(crate) token: String,
}

/// What a whole snapshot says.
#[derive(Debug)]
pub(crate) struct SnapshotModels {
    pub(crate) models: Vec<ModelStatus>,
    pub(crate) reset: bool,
    /// Its parts as they came.
    pub(crate) parts: Vec<WatchStatusResponse>,
}

/// Asks for these models; for all when there are none.
pub(crate) fn of(models: &[&str]) -> WatchStatusRequest {
    WatchStatusRequest {
        model_ids: models.iter().map(ToString::to_string).collect(),
        ..WatchStatusRequest::default()
    }
}

/// Asks to go on behind a token.
pub(crate) fn behind(token: &str, models: &[&str]) -> WatchStatusRequest {
    WatchStatusRequest {
        resume_token: token.to_owned(),
        ..of(models)
    }
}

/// Opens a watch.
pub(crate) async fn open(client: &Client, request: WatchStatusRequest) -> Result<RawWatch, Error> {
    let answer = client.model_service().watch_status(request).await;
    let answer = answer.map_err(|status| Error::from_answer(client, status))?;
    Ok(RawWatch {
        client: client.clone(),
        responses: answer.into_inner(),
        token: String::new(),
    })
}

impl RawWatch {
    /// The next response, or the error that the watch ends with.
    pub(crate) async fn response(&mut self) -> Result<Result<WatchStatusResponse, Error>> {
        let message = timeout(DEADLINE, self.responses.message()).await;
        match message.context("the watch is silent")? {
            Ok(response) => {
                let response = response.context("the watch ended without an error")?;
                self.token.clone_from(&response.resume_token);
                Ok(Ok(response))
            }
            Err(status) => Ok(Err(Error::from_answer(&self.client, status))),
        }
    }

    /// What the next response says.
    pub(crate) async fn event(&mut self) -> Result<Event> {
        self.response().await??.event.context("an empty response")
    }

    /// The snapshot that comes next.
    pub(crate) async fn snapshot(&mut self) -> Result<SnapshotModels> {
        let first = self.response().await??;
        self.rest_of_snapshot(first).await
    }

    /// The snapshot that begins with this response.
    pub(crate) async fn rest_of_snapshot(
        &mut self,
        first: WatchStatusResponse,
    ) -> Result<SnapshotModels> {
        let mut whole = SnapshotModels {
            models: Vec::new(),
            reset: false,
            parts: Vec::new(),
        };
        let mut response = first;
        loop {
            let part = snapshot_of(&response)?.clone();
            whole.parts.push(response);
            whole.models.extend(part.models);
            whole.reset |= part.reset;
            if part.complete {
                return Ok(whole);
            }
            response = self.response().await??;
        }
    }

    /// The next transition. Progress before it is left out.
    pub(crate) async fn transition(&mut self) -> Result<ModelChanged> {
        loop {
            match self.event().await? {
                Event::Changed(changed) if changed.kind() == ChangeKind::Transition => {
                    return Ok(changed);
                }
                Event::Changed(changed) if changed.kind() == ChangeKind::Progress => {}
                event => anyhow::bail!("no transition but {event:?}"),
            }
        }
    }

    /// So many transitions.
    pub(crate) async fn transitions(&mut self, count: usize) -> Result<Vec<ModelChanged>> {
        let mut transitions = Vec::with_capacity(count);
        while transitions.len() < count {
            transitions.push(self.transition().await?);
        }
        Ok(transitions)
    }
}

/// The part of a snapshot that a response is.
pub(crate) fn snapshot_of(response: &WatchStatusResponse) -> Result<&StatusSnapshot> {
    match &response.event {
        Some(Event::Snapshot(part)) => Ok(part),
        event => anyhow::bail!("no snapshot but {event:?}"),
    }
}

/// The status after a change.
pub(crate) fn status(changed: &ModelChanged) -> Result<&ModelStatus> {
    changed.status.as_ref().context("a change without a status")
}

/// Makes sure that revisions follow each other without a gap.
#[track_caller]
pub(crate) fn assert_contiguous(transitions: &[ModelChanged]) {
    for pair in transitions.windows(2) {
        assert_eq!(pair[0].revision + 1, pair[1].revision, "{pair:?}");
    }
}
