//! Whether the server and its models are well, as health checks ask it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use hangar_client::{
    inference::grpc_inference_service_server,
    v1::{
        catalog_service_server, inference_service_server, model_service_server,
        session_service_server,
    },
};
use tokio::sync::watch;

use crate::{
    config::Readiness,
    lifecycle::Fleet,
    model::{ModelId, StateKind},
    rpc::health::{HealthSource, LIVENESS, MAX_NAMES, READINESS, STARTUP},
    status::EventLog,
    supervisor::Supervisor,
};

/// Answers health checks from what the fleet publishes.
///
/// - `liveness`: the process answers, and of the tasks that it cannot do without none has died and all turn.
/// - `startup`: the ports are bound.
/// - `readiness`, the empty name and the names of the API's services: started, not shutting down, and every
///   required model has been READY or FAILED once, or is READY, as [`Readiness`] says.
/// - `model/<id>`: the model is READY.
pub struct Health {
    fleet: Arc<Fleet>,
    event_log: Arc<EventLog>,
    supervisor: Supervisor,
    readiness: Readiness,
    started: AtomicBool,
    stopping: AtomicBool,
}

/// Services of the API that have the server's readiness.
const SERVICES: &[&str] = &[
    "",
    READINESS,
    catalog_service_server::SERVICE_NAME,
    inference_service_server::SERVICE_NAME,
    model_service_server::SERVICE_NAME,
    session_service_server::SERVICE_NAME,
    grpc_inference_service_server::SERVICE_NAME,
];

/// What the names of models' services begin with.
const MODEL: &str = "model/";

impl Health {
    /// The health of `fleet`, which publishes to `event_log` and whose tasks `supervisor` watches; `readiness` says what that
    /// waits for.
    pub fn new(
        fleet: Arc<Fleet>,
        event_log: Arc<EventLog>,
        supervisor: Supervisor,
        readiness: Readiness,
    ) -> Arc<Self> {
        Arc::new(Self {
            fleet,
            event_log,
            supervisor,
            readiness,
            started: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        })
    }

    /// The ports are bound.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
        self.event_log.touch();
    }

    /// The server is shutting down.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
        self.event_log.touch();
    }

    fn is_ready(&self) -> bool {
        let serves = self.started.load(Ordering::Acquire) && !self.stopping.load(Ordering::Acquire);
        serves
            && match self.readiness {
                Readiness::Started => self.fleet.required_models_done(),
                Readiness::Required => self.fleet.required_are_ready(),
            }
    }
}

impl HealthSource for Health {
    fn serving(&self, service: &str) -> Option<bool> {
        match service {
            LIVENESS => Some(self.supervisor.is_live()),
            STARTUP => Some(self.started.load(Ordering::Acquire)),
            service if SERVICES.contains(&service) => Some(self.is_ready()),
            service => {
                let id = ModelId::parse(service.strip_prefix(MODEL)?).ok()?;
                let status = self.event_log.status(&self.fleet.resolve(&id))?;
                Some(status.state == StateKind::Ready)
            }
        }
    }

    fn names(&self) -> (Vec<String>, bool) {
        let named = SERVICES.iter().filter(|name| !name.is_empty());
        let mut names: Vec<_> = named
            .chain([&LIVENESS, &STARTUP])
            .map(ToString::to_string)
            .collect();
        let (models, more) = self.event_log.first(MAX_NAMES.saturating_sub(names.len()));
        let models = models.iter().map(|status| &status.model_id);
        names.extend(models.map(|id| format!("{MODEL}{id}")));
        (names, more)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.event_log.changes()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[bounded::test]
    fn every_service_of_the_api_has_the_servers_readiness() {
        let sets = [
            hangar_client::v1::FILE_DESCRIPTOR_SET,
            hangar_client::inference::FILE_DESCRIPTOR_SET,
        ];
        let mut services = 0;
        for set in sets {
            let set = FileDescriptorSet::decode(set).expect("descriptors");
            for file in &set.file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    assert!(SERVICES.contains(&&*name), "{name} is none of SERVICES");
                    services += 1;
                }
            }
        }
        // The others are the empty name and readiness itself.
        assert_eq!(services, SERVICES.len() - 2);
    }
}
