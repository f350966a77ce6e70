//! Calls that are safe to repeat.
//!
//! The same id with the same body joins the call that is under way or gets the answer that it gave; with
//! another body it is refused. Answers are remembered for a day; failures are not, so that they can be
//! tried again.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::Status;

use super::{error::ApiError, validate::MAX_REQUEST_ID};

/// The calls of one method.
#[derive(Debug)]
pub(super) struct RequestIds<T: Clone> {
    entries: Mutex<Entries<T>>,
}

#[derive(Debug)]
struct Entries<T: Clone> {
    calls: HashMap<String, Call<T>>,
    ages: VecDeque<(Instant, String)>,
}

#[derive(Debug)]
struct Call<T: Clone> {
    body: [u8; 32],
    began: Instant,
    answer: Shared<BoxFuture<'static, Result<T, Status>>>,
}

/// How long an answer is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// How many are.
const REMEMBERED: usize = 10_000;

// === impl RequestIds ===

impl<T: Clone + Send + Sync + 'static> RequestIds<T> {
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
        // What the work itself refuses is not remembered.
        if id.is_empty() || id.len() > MAX_REQUEST_ID {
            return work.await;
        }
        let (began, answer) = self.join(id, Sha256::digest(body.encode_to_vec()).into(), work)?;
        let result = answer.await;
        if result.is_err() {
            self.forget(id, began);
        }
        result
    }

    #[allow(
        clippy::type_complexity,
        reason = "a name would say no more than the type does"
    )]
    fn join(
        &self,
        id: &str,
        body: [u8; 32],
        work: BoxFuture<'static, Result<T, Status>>,
    ) -> Result<(Instant, Shared<BoxFuture<'static, Result<T, Status>>>), ApiError> {
        let mut entries = self.entries();
        entries.expire();
        if let Some(call) = entries.calls.get(id) {
            return if call.body == body {
                Ok((call.began, call.answer.clone()))
            } else {
                Err(ApiError::RequestIdReused)
            };
        }
        let began = Instant::now();
        let answer = work.shared();
        entries.ages.push_back((began, id.to_owned()));
        entries.calls.insert(
            id.to_owned(),
            Call {
                body,
                began,
                answer: answer.clone(),
            },
        );
        Ok((began, answer))
    }

    fn forget(&self, id: &str, began: Instant) {
        let mut entries = self.entries();
        if entries
            .calls
            .get(id)
            .is_some_and(|call| call.began == began)
        {
            entries.calls.remove(id);
            entries.ages.retain(|(at, of)| *at != began || of != id);
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Default for RequestIds<T> {
    fn default() -> Self {
        Self {
            entries: Mutex::new(Entries {
                calls: HashMap::new(),
                ages: VecDeque::new(),
            }),
        }
    }
}

// === impl Entries ===

impl<T: Clone> Entries<T> {
    /// Forgets what is too old, and the oldest of what is too much.
    fn expire(&mut self) {
        while let Some((began, id)) = self.ages.front() {
            if began.elapsed() < REMEMBERED_FOR && self.ages.len() < REMEMBERED {
                break;
            }
            if self.calls.get(id).is_some_and(|call| call.began == *began) {
                self.calls.remove(id);
            }
            self.ages.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use hangar_client::v1::GetInfoRequest;
    use tonic::Code;

    use super::*;

    fn body(model: &str) -> GetInfoRequest {
        GetInfoRequest {
            model_id: model.to_owned(),
            ..GetInfoRequest::default()
        }
    }

    fn count(calls: &Arc<AtomicU32>, fail: bool) -> BoxFuture<'static, Result<u32, Status>> {
        let calls = calls.clone();
        async move {
            let n = calls.fetch_add(1, Ordering::Relaxed);
            if fail {
                Err(Status::unavailable("later"))
            } else {
                Ok(n)
            }
        }
        .boxed()
    }

    #[tokio::test]
    async fn a_repeated_call_gets_the_first_answer() {
        let ids = RequestIds::default();
        let calls = Arc::default();
        for _ in 0..3 {
            assert_eq!(
                ids.once("a", &body("m"), count(&calls, false)).await.ok(),
                Some(0)
            );
        }
        assert_eq!(
            ids.once("b", &body("m"), count(&calls, false)).await.ok(),
            Some(1)
        );
        assert_eq!(
            ids.once("", &body("m"), count(&calls, false)).await.ok(),
            Some(2)
        );
    }

    #[tokio::test]
    async fn another_body_is_refused() {
        let ids = RequestIds::default();
        let calls = Arc::default();
        ids.once("a", &body("m"), count(&calls, false))
            .await
            .expect("the first call");
        let refused = ids.once("a", &body("n"), count(&calls, false)).await;
        assert_eq!(refused.map_err(|s| s.code()), Err(Code::InvalidArgument));
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let ids = RequestIds::default();
        let calls = Arc::default();
        assert!(
            ids.once("a", &body("m"), count(&calls, true))
                .await
                .is_err()
        );
        assert_eq!(
            ids.once("a", &body("m"), count(&calls, false)).await.ok(),
            Some(1)
        );
    }

    #[tokio::test]
    async fn nothing_is_kept_of_what_failed_or_is_too_long() {
        let ids = RequestIds::default();
        let calls = Arc::default();
        for n in 0..10 {
            let id = n.to_string();
            assert!(
                ids.once(&id, &body("m"), count(&calls, true))
                    .await
                    .is_err()
            );
        }
        let long = "x".repeat(MAX_REQUEST_ID + 1);
        assert!(
            ids.once(&long, &body("m"), count(&calls, false))
                .await
                .is_ok()
        );
        let entries = ids.entries();
        assert_eq!((entries.calls.len(), entries.ages.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_duplicate_joins_the_call_under_way() {
        let ids = RequestIds::default();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let first = async { receiver.await.map_err(|_| Status::internal("gone")) }.boxed();
        let never = futures::future::pending().boxed();
        let request = body("m");
        let both = futures::future::join(
            ids.once("a", &request, first),
            ids.once("a", &request, never),
        );
        sender.send(7).expect("somebody waits");
        let (first, second) = both.await;
        assert_eq!((first.ok(), second.ok()), (Some(7), Some(7)));
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let ids = RequestIds::default();
        let calls = Arc::default();
        for n in 0..REMEMBERED + 10 {
            ids.once(&n.to_string(), &body("m"), count(&calls, false))
                .await
                .expect("new");
        }
        assert!(ids.entries().calls.len() <= REMEMBERED);
    }
}
