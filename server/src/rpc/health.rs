//! The gRPC health protocol (`grpc.health.v1`) over the server's own state.
//!
//! Invariant: an answer is derived from [`HealthSource`] when it is given; nothing is cached. A watcher
//! gets the current status first, then each status that differs from the last one it got.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, stream};
use hangar_client::ERROR_DOMAIN;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};
use tonic_types::{ErrorDetails, StatusExt};

/// Service that says whether the process itself turns.
pub const LIVENESS: &str = "liveness";
/// Service that says whether requests may come. The empty name means the same.
pub const READINESS: &str = "readiness";
/// Service that says whether the start is done.
pub const STARTUP: &str = "startup";

/// Most names of services in a message.
pub const MAX_NAMES: usize = 16;

/// Largest request in bytes: a service name is a model's id with a prefix.
const MAX_REQUEST_BYTES: usize = 4096;

/// Says how services are.
pub trait HealthSource: Send + Sync + 'static {
    /// Whether a service is serving; `None` for one that does not exist.
    ///
    /// The empty name is the server as a whole. Must not block.
    fn serving(&self, service: &str) -> Option<bool>;

    /// Names of services for which [`HealthSource::serving`] has an answer, the empty one left out, for messages to
    /// people: at most [`MAX_NAMES`], and whether there are more.
    fn names(&self) -> (Vec<String>, bool);

    /// Changes its value after each change of what [`HealthSource::serving`] answers.
    ///
    /// It may change more often than that. Watch streams end when the sender is dropped.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Implements `grpc.health.v1.Health` over a [`HealthSource`].
///
/// `Check` answers NOT_FOUND for an unknown service. `Watch` answers SERVICE_UNKNOWN and goes on. When
/// the shutdown token fires, watchers of known services get NOT_SERVING, and all streams end with OK.
pub struct HealthService<S> {
    source: Arc<S>,
    shutdown: CancellationToken,
    watchers: Arc<Semaphore>,
    max_watchers: usize,
}

/// One watcher's stream.
struct Watcher<S> {
    service: String,
    source: Arc<S>,
    changes: watch::Receiver<u64>,
    shutdown: CancellationToken,
    last: Option<ServingStatus>,
    ended: bool,
    _slot: OwnedSemaphorePermit,
}

impl<S: HealthSource> HealthService<S> {
    /// A service over `source` with at most `max_watchers` open watch streams.
    pub fn new(source: Arc<S>, shutdown: CancellationToken, max_watchers: usize) -> Self {
        let max_watchers = max_watchers.min(Semaphore::MAX_PERMITS);
        Self {
            source,
            shutdown,
            watchers: Arc::new(Semaphore::new(max_watchers)),
            max_watchers,
        }
    }

    /// The tower service to add to a router. It can be cloned for further ports, which then share the
    /// limit of watch streams.
    pub fn into_server(self) -> HealthServer<Self> {
        HealthServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES)
    }

    fn too_many_watchers(&self) -> Status {
        let metadata = [("limit".to_owned(), self.max_watchers.to_string())];
        Status::with_error_details(
            Code::ResourceExhausted,
            "too many health watch streams are open; close some or raise max_watchers",
            ErrorDetails::with_error_info("LIMIT_REACHED", ERROR_DOMAIN, metadata),
        )
    }
}

#[tonic::async_trait]
impl<S: HealthSource> Health for HealthService<S> {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match status(self.source.as_ref(), &service) {
            ServingStatus::ServiceUnknown => {
                let details = ErrorDetails::with_resource_info(
                    "service",
                    service,
                    "",
                    "no such health service",
                );
                Err(Status::with_error_details(
                    Code::NotFound,
                    unknown(self.source.as_ref()),
                    details,
                ))
            }
            known => Ok(Response::new(response(known))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let slot = Arc::clone(&self.watchers)
            .try_acquire_owned()
            .map_err(|_| self.too_many_watchers())?;
        let watcher = Watcher {
            service: request.into_inner().service,
            source: Arc::clone(&self.source),
            changes: self.source.changes(),
            shutdown: self.shutdown.clone(),
            last: None,
            ended: false,
            _slot: slot,
        };
        let statuses = stream::unfold(watcher, |mut watcher| async move {
            let status = watcher.next().await?;
            Some((Ok(response(status)), watcher))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

impl<S: HealthSource> Watcher<S> {
    /// Waits for a status other than the last one; `None` ends the stream.
    async fn next(&mut self) -> Option<ServingStatus> {
        while !self.ended {
            self.changes.borrow_and_update();
            let mut now = status(self.source.as_ref(), &self.service);
            if self.shutdown.is_cancelled() || self.changes.has_changed().is_err() {
                self.ended = true;
                if now == ServingStatus::Serving {
                    now = ServingStatus::NotServing;
                }
            }
            if self.last.replace(now) != Some(now) {
                return Some(now);
            }
            if !self.ended {
                tokio::select! {
                    // An error means that the sender is gone; the next turn sees that.
                    _ = self.changes.changed() => {}
                    () = self.shutdown.cancelled() => {}
                }
            }
        }
        None
    }
}

fn status(source: &impl HealthSource, service: &str) -> ServingStatus {
    match source.serving(service) {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    }
}

fn unknown(source: &impl HealthSource) -> String {
    let (names, more) = source.names();
    let more = if more { ", and more" } else { "" };
    format!(
        "unknown health service; there are the empty name, {}{more}",
        names.join(", ")
    )
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{Mutex, PoisonError},
    };

    use futures::StreamExt;

    use super::*;

    struct Table {
        services: Mutex<HashMap<&'static str, bool>>,
        changes: watch::Sender<u64>,
    }

    impl Table {
        fn set(&self, service: &'static str, serving: bool) {
            self.services.lock().unwrap().insert(service, serving);
            self.changes.send_modify(|revision| *revision += 1);
        }
    }

    impl HealthSource for Table {
        fn serving(&self, service: &str) -> Option<bool> {
            let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
            services.get(service).copied()
        }

        fn names(&self) -> (Vec<String>, bool) {
            (vec!["readiness".to_owned(), "model/m".to_owned()], true)
        }

        fn changes(&self) -> watch::Receiver<u64> {
            self.changes.subscribe()
        }
    }

    fn service() -> (Arc<Table>, CancellationToken, HealthService<Table>) {
        let table = Arc::new(Table {
            services: Mutex::new(HashMap::from([("", true)])),
            changes: watch::Sender::new(0),
        });
        let shutdown = CancellationToken::new();
        let health = HealthService::new(Arc::clone(&table), shutdown.clone(), 2);
        (table, shutdown, health)
    }

    fn request(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest {
            service: service.to_owned(),
        })
    }

    type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn next(stream: &mut Statuses) -> Option<ServingStatus> {
        Some(stream.next().await?.unwrap().status())
    }

    #[bounded::test]
    async fn check_answers_the_status_and_not_found_for_an_unknown_service() {
        let (table, _, health) = service();
        let check = async |service| health.check(request(service)).await;
        assert_eq!(
            check("").await.unwrap().into_inner().status(),
            ServingStatus::Serving
        );
        table.set("", false);
        assert_eq!(
            check("").await.unwrap().into_inner().status(),
            ServingStatus::NotServing
        );
        let unknown = check("model/x").await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        assert_eq!(
            unknown.message(),
            "unknown health service; there are the empty name, readiness, model/m, and more"
        );
    }

    #[bounded::test]
    async fn watch_of_an_unknown_service_stays_open_until_it_is_known() {
        let (table, _, health) = service();
        let mut stream = health.watch(request("model/x")).await.unwrap().into_inner();
        assert_eq!(next(&mut stream).await, Some(ServingStatus::ServiceUnknown));
        table.set("model/x", false);
        assert_eq!(next(&mut stream).await, Some(ServingStatus::NotServing));
        table.set("other", true);
        table.set("model/x", true);
        assert_eq!(next(&mut stream).await, Some(ServingStatus::Serving));
    }

    #[bounded::test]
    async fn watch_ends_with_not_serving_at_shutdown() {
        let (_, shutdown, health) = service();
        let mut known = health.watch(request("")).await.unwrap().into_inner();
        let mut unknown = health.watch(request("x")).await.unwrap().into_inner();
        assert_eq!(next(&mut known).await, Some(ServingStatus::Serving));
        assert_eq!(
            next(&mut unknown).await,
            Some(ServingStatus::ServiceUnknown)
        );
        shutdown.cancel();
        assert_eq!(next(&mut known).await, Some(ServingStatus::NotServing));
        assert_eq!(next(&mut known).await, None);
        assert_eq!(next(&mut unknown).await, None);
    }

    #[bounded::test]
    async fn watch_streams_are_bounded_and_give_their_slots_back() {
        let (_, _, health) = service();
        let first = health.watch(request("")).await.unwrap();
        let _second = health.watch(request("")).await.unwrap();
        let refused = health.watch(request("")).await.err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(
            refused.get_error_details().error_info().unwrap().reason,
            "LIMIT_REACHED"
        );
        drop(first);
        assert!(health.watch(request("")).await.is_ok());
    }
}
