//! Calls that change something: they go on when their callers go away ([`detached_calls`](super::detached_calls)), and are safe to
//! repeat.
//!
//! The same id with the same body joins the call that is under way or gets the response that it gave; with
//! another body it is refused. Responses are remembered in the catalog for a day; failures are not, so that
//! they can be tried again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use hangar_client::server_codec;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tonic::Status;
use tracing::Instrument;

use super::{
    detached_calls::{DetachedCalls, MAX_CALLS, broken_off},
    error::ApiError,
    validate::MAX_REQUEST_ID,
};
use crate::{
    catalog::{Catalog, CatalogEntry, RequestKey, ResponseToStore, StoredResponse},
    supervisor::Tasks,
};

/// The calls of one method.
#[derive(Debug)]
pub(super) struct RequestIds<T: Clone> {
    method: &'static str,
    catalog: Catalog,
    tasks: Tasks,
    calls: RunningCalls<T>,
    /// Calls without an id.
    anonymous: DetachedCalls,
}

/// What a call is known by.
#[derive(Clone, Debug)]
pub(super) struct CallIdentity {
    key: RequestKey,
    digest: [u8; 32],
}

/// Calls that are under way.
type RunningCalls<T> = Arc<Mutex<HashMap<String, RunningCall<T>>>>;

type SharedResponse<T> = Shared<BoxFuture<'static, Result<T, Status>>>;

#[derive(Debug)]
struct RunningCall<T: Clone> {
    digest: [u8; 32],
    response: SharedResponse<T>,
}

/// Takes a call away when it has ended, in whatever way.
struct RemoveOnDrop<T: Clone> {
    calls: RunningCalls<T>,
    id: String,
}

/// Largest response that is remembered, in bytes. What gives longer ones can be done again without harm.
const MAX_RESPONSE: usize = 1 << 20;

/// The request id of a call by which it is known: none for a mere check, which changes nothing and may be followed by the
/// call itself.
pub(super) fn remembered(id: &str, validate_only: bool) -> &str {
    if validate_only { "" } else { id }
}

impl<T: Message + Default + Clone + 'static> RequestIds<T> {
    /// The calls of `method`. Those under way run as `tasks`.
    pub(super) fn new(method: &'static str, catalog: Catalog, tasks: Tasks) -> Self {
        Self {
            method,
            catalog,
            calls: RunningCalls::default(),
            anonymous: DetachedCalls::new(tasks.clone()),
            tasks,
        }
    }

    /// Does `work` for `body`, once for each `id`; an empty id stands for none.
    ///
    /// # Errors
    ///
    /// Those of `work`, and when `id` was used for another body.
    pub(super) async fn once(
        &self,
        id: &str,
        body: &impl Message,
        work: BoxFuture<'static, Result<T, Status>>,
    ) -> Result<T, Status> {
        let catalog = self.catalog.clone();
        let remembering = move |identity: Option<CallIdentity>| {
            async move {
                let response = work.await?;
                if let Some(identity) = identity {
                    identity.keep(&catalog, &response).await;
                }
                Ok(response)
            }
            .boxed()
        };
        self.once_with(id, body, remembering).await
    }

    /// As [`Self::once`], for work that has its response remembered by itself.
    ///
    /// # Errors
    ///
    /// As [`Self::once`].
    pub(super) async fn once_with(
        &self,
        id: &str,
        body: &impl Message,
        work: impl FnOnce(Option<CallIdentity>) -> BoxFuture<'static, Result<T, Status>>
        + Send
        + 'static,
    ) -> Result<T, Status> {
        // What the work itself refuses is not remembered.
        if id.is_empty() || id.len() > MAX_REQUEST_ID {
            return self.anonymous.run(work(None)).await;
        }
        let identity = CallIdentity {
            key: RequestKey {
                principal: String::new(),
                method: self.method,
                id: id.to_owned(),
            },
            digest: Sha256::digest(body.encode_to_vec()).into(),
        };
        self.join(identity, work)?.await
    }

    /// The call that is under way, begun if there is none.
    fn join(
        &self,
        identity: CallIdentity,
        work: impl FnOnce(Option<CallIdentity>) -> BoxFuture<'static, Result<T, Status>>
        + Send
        + 'static,
    ) -> Result<SharedResponse<T>, ApiError> {
        let mut calls = lock(&self.calls);
        if let Some(call) = calls.get(&identity.key.id) {
            return if call.digest == identity.digest {
                Ok(call.response.clone())
            } else {
                Err(ApiError::RequestIdReused)
            };
        }
        if calls.len() >= MAX_CALLS {
            return Err(ApiError::Limit {
                what: "calls with a request_id",
                limit: MAX_CALLS,
            });
        }
        let (reply, response) = oneshot::channel();
        let response = async move { response.await.unwrap_or_else(|_| Err(broken_off())) };
        let response = response.boxed().shared();
        let id = identity.key.id.clone();
        let call = RunningCall {
            digest: identity.digest,
            response: response.clone(),
        };
        let remove = RemoveOnDrop {
            calls: self.calls.clone(),
            id: id.clone(),
        };
        calls.insert(id, call);
        let catalog = self.catalog.clone();
        let memory = server_codec::budget();
        let run = async move {
            let _kept = memory;
            let result = match recall(&catalog, &identity).await {
                Ok(Some(response)) => Ok(response),
                Ok(None) => work(Some(identity)).await,
                Err(error) => Err(error.into()),
            };
            // From now on the response is found in the catalog.
            drop(remove);
            let _ = reply.send(result);
        };
        // A panic drops the reply, which its callers hear.
        self.tasks.request(run.in_current_span());
        Ok(response)
    }
}

impl CallIdentity {
    /// Has what `response` makes of an entry remembered together with the entry's change.
    pub(super) fn with<A: Message>(
        self,
        response: impl FnOnce(&CatalogEntry) -> A + Send + 'static,
    ) -> ResponseToStore {
        ResponseToStore {
            key: self.key,
            digest: self.digest,
            response: Box::new(move |entry| response(entry).encode_to_vec()),
        }
    }

    /// Remembers `response`. What was done is done: that it cannot be remembered is no reason to fail.
    async fn keep(self, catalog: &Catalog, response: &impl Message) {
        let response = response.encode_to_vec();
        if response.len() > MAX_RESPONSE {
            return;
        }
        let remembered = StoredResponse {
            digest: self.digest,
            response,
        };
        if let Err(error) = catalog.remember(self.key, remembered).await {
            tracing::warn!(%error, "an answer is not remembered");
        }
    }
}

impl<T: Clone> Drop for RemoveOnDrop<T> {
    fn drop(&mut self) {
        lock(&self.calls).remove(&self.id);
    }
}

/// The response that was given to the call, if there is one.
async fn recall<T: Message + Default>(
    catalog: &Catalog,
    identity: &CallIdentity,
) -> Result<Option<T>, ApiError> {
    match catalog.recall(&identity.key).await? {
        Some(found) if found.digest != identity.digest => Err(ApiError::RequestIdReused),
        Some(found) => match T::decode(found.response.as_slice()) {
            Ok(response) => Ok(Some(response)),
            Err(error) => Err(ApiError::Internal(format!("a remembered answer: {error}"))),
        },
        None => Ok(None),
    }
}

fn lock<T: Clone>(calls: &RunningCalls<T>) -> MutexGuard<'_, HashMap<String, RunningCall<T>>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
