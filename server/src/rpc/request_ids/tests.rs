//! Calls that are repeated.

use std::sync::atomic::{AtomicU32, Ordering};

use hangar_client::v1::GetInfoRequest;
use tonic::Code;

use super::*;
use crate::supervisor::Supervisor;

struct Counted {
    _directory: tempfile::TempDir,
    catalog: Catalog,
    calls: Arc<AtomicU32>,
}

impl Counted {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("catalog.db");
        Self {
            catalog: Catalog::open(&path, 10, &Supervisor::default()).expect("a catalog"),
            _directory: directory,
            calls: Arc::default(),
        }
    }

    fn ids(&self) -> RequestIds<u32> {
        RequestIds::new("Count", self.catalog.clone(), Supervisor::default().tasks())
    }

    fn count(&self, fail: bool) -> BoxFuture<'static, Result<u32, Status>> {
        let calls = self.calls.clone();
        async move {
            let n = calls.fetch_add(1, Ordering::Relaxed) + 1;
            if fail {
                Err(Status::unavailable("later"))
            } else {
                Ok(n)
            }
        }
        .boxed()
    }
}

fn body(model: &str) -> GetInfoRequest {
    GetInfoRequest {
        model_id: model.to_owned(),
        ..GetInfoRequest::default()
    }
}

#[bounded::test]
async fn a_repeated_call_gets_the_first_answer_also_from_another_server() {
    let counted = Counted::new();
    for ids in [counted.ids(), counted.ids()] {
        for _ in 0..2 {
            let answer = ids.once("a", &body("m"), counted.count(false)).await;
            assert_eq!(answer.ok(), Some(1));
        }
    }
    let ids = counted.ids();
    let answer = ids.once("b", &body("m"), counted.count(false)).await;
    assert_eq!(answer.ok(), Some(2));
    let answer = ids.once("", &body("m"), counted.count(false)).await;
    assert_eq!(answer.ok(), Some(3));
}

#[bounded::test]
async fn another_body_is_refused() {
    let counted = Counted::new();
    for (n, ids) in [counted.ids(), counted.ids()].into_iter().enumerate() {
        let first = ids.once("a", &body("m"), counted.count(false)).await;
        assert!(first.is_ok(), "{n}");
        let refused = ids.once("a", &body("n"), counted.count(false)).await;
        assert_eq!(refused.map_err(|s| s.code()), Err(Code::InvalidArgument));
    }
}

#[bounded::test]
async fn a_failure_is_not_remembered() {
    let counted = Counted::new();
    let ids = counted.ids();
    assert!(
        ids.once("a", &body("m"), counted.count(true))
            .await
            .is_err()
    );
    let answer = ids.once("a", &body("m"), counted.count(false)).await;
    assert_eq!(answer.ok(), Some(2));
}

#[bounded::test]
async fn nothing_is_kept_in_memory_of_what_has_ended() {
    let counted = Counted::new();
    let ids = counted.ids();
    for n in 0..10 {
        let failed = n % 2 == 0;
        let work = counted.count(failed);
        let answer = ids.once(&n.to_string(), &body("m"), work).await;
        assert_eq!(answer.is_err(), failed);
    }
    let long = "x".repeat(MAX_REQUEST_ID + 1);
    let answer = ids.once(&long, &body("m"), counted.count(false)).await;
    assert!(answer.is_ok());
    assert_eq!(lock(&ids.calls).len(), 0);
}

#[bounded::test]
async fn a_duplicate_joins_the_call_under_way() {
    let counted = Counted::new();
    let ids = counted.ids();
    let (sender, receiver) = oneshot::channel();
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

#[bounded::test]
async fn a_call_goes_on_without_its_caller() {
    let counted = Counted::new();
    let ids = counted.ids();
    let (sender, receiver) = oneshot::channel();
    let work = async { receiver.await.map_err(|_| Status::internal("gone")) }.boxed();
    let request = body("m");
    let caller = ids.once("a", &request, work);
    assert!(futures::poll!(std::pin::pin!(caller)).is_pending());
    sender.send(7).expect("the call goes on");
    let answer = ids.once("a", &request, counted.count(false)).await;
    assert_eq!(answer.ok(), Some(7));
}

#[bounded::test]
async fn a_call_that_panics_is_broken_off_and_can_be_repeated() {
    let counted = Counted::new();
    let ids = counted.ids();
    let work = async { panic!("in a test") }.boxed();
    let broken = ids.once("a", &body("m"), work).await;
    assert_eq!(broken.map_err(|s| s.code()), Err(Code::Internal));
    let answer = ids.once("a", &body("m"), counted.count(false)).await;
    assert_eq!(answer.ok(), Some(1));
}
