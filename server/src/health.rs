//! Whether the server and its models are well, as health checks ask it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use crate::{
    config::Readiness,
    lifecycle::Fleet,
    model::{ModelId, Stage},
    rpc::health::HealthSource,
    status::Hub,
    supervisor::Supervisor,
};

/// Answers health checks from what the fleet publishes.
///
/// - `liveness`: the process answers, none of its tasks that it cannot do without has died, and all of them turn.
/// - `startup`: the ports are bound.
/// - `readiness`, the empty name and the names of the API's services: started, not shutting down, and every
///   required model has been READY or FAILED once, or is READY, as [`Readiness`] says.
/// - `model/<id>`: the model is READY.
pub struct Health {
    fleet: Arc<Fleet>,
    hub: Arc<Hub>,
    supervisor: Supervisor,
    readiness: Readiness,
    started: AtomicBool,
    stopping: AtomicBool,
}

/// Services of the API that have the server's readiness.
const SERVICES: &[&str] = &[
    "",
    "readiness",
    "hangar.v1.CatalogService",
    "hangar.v1.InferenceService",
    "hangar.v1.ModelService",
    "hangar.v1.SessionService",
    "inference.GRPCInferenceService",
];

// === impl Health ===

impl Health {
    /// The health of `fleet`, which publishes to `hub` and whose tasks `supervisor` watches; `readiness` says what that
    /// waits for.
    pub fn new(
        fleet: Arc<Fleet>,
        hub: Arc<Hub>,
        supervisor: Supervisor,
        readiness: Readiness,
    ) -> Arc<Self> {
        Arc::new(Self {
            fleet,
            hub,
            supervisor,
            readiness,
            started: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        })
    }

    /// The ports are bound.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
        self.hub.touch();
    }

    /// The server is shutting down.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
        self.hub.touch();
    }

    fn is_ready(&self) -> bool {
        let serves = self.started.load(Ordering::Acquire) && !self.stopping.load(Ordering::Acquire);
        serves
            && match self.readiness {
                Readiness::Started => self.fleet.is_settled(),
                Readiness::Required => self.fleet.required_are_ready(),
            }
    }
}

impl HealthSource for Health {
    fn serving(&self, service: &str) -> Option<bool> {
        match service {
            "liveness" => Some(self.supervisor.is_turning()),
            "startup" => Some(self.started.load(Ordering::Acquire)),
            service if SERVICES.contains(&service) => Some(self.is_ready()),
            service => {
                let id = ModelId::parse(service.strip_prefix("model/")?).ok()?;
                let status = self.hub.status(&self.fleet.resolve(&id))?;
                Some(status.stage == Stage::Ready)
            }
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.hub.news()
    }
}
