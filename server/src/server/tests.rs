//! What the main port serves, held against what its descriptors say.

use std::collections::BTreeSet;

use axum::{Router, body::Body};
use bytes::Bytes;
use hangar_client::inference::grpc_inference_service::{
    MODEL_CONFIG, MODEL_METADATA, MODEL_READY, MODEL_STATISTICS, REPOSITORY_INDEX,
    REPOSITORY_MODEL_LOAD, REPOSITORY_MODEL_UNLOAD, SERVER_LIVE, SERVER_METADATA, SERVER_READY,
};
use http::Request;
use tower::ServiceExt;

use super::{
    port::apis,
    routes::{LARGE, routes},
    *,
};
use crate::{
    config::{Layer, SettingsArguments},
    telemetry::rpc::methods,
};

/// The methods of the Open Inference Protocol whose requests are small.
const SMALL: [&str; 10] = [
    SERVER_LIVE,
    SERVER_READY,
    MODEL_READY,
    SERVER_METADATA,
    MODEL_METADATA,
    MODEL_CONFIG,
    MODEL_STATISTICS,
    REPOSITORY_INDEX,
    REPOSITORY_MODEL_LOAD,
    REPOSITORY_MODEL_UNLOAD,
];

/// What the main port of a server without models serves.
async fn main_port(directory: &std::path::Path) -> Router {
    let layer = Layer {
        data_dir: Some(directory.join("data")),
        runtime_dir: Some(directory.join("run")),
        // Some program: nothing is loaded.
        worker: std::env::current_exe().ok(),
        ..Layer::default()
    };
    let arguments = SettingsArguments {
        config: None,
        layer,
    };
    let settings = Settings::load(arguments).expect("settings");
    settings.prepare().expect("its directories");
    let telemetry = Telemetry::without_log(&settings).expect("telemetry");
    let supervisor = Supervisor::default();
    let file = settings.data_dir.join("catalog.db");
    let catalog = Catalog::open(&file, 1, &supervisor).expect("a catalog");
    let control =
        ControlPlane::start(&settings, &telemetry, catalog, Spawner::idle(), supervisor).await;
    let control = control.expect("a control plane");
    let stop = CancellationToken::new();
    let checks = HealthService::new(control.health.clone(), stop.clone(), 1).into_server();
    let apis = apis(&control, &settings, stop);
    routes(&settings, apis, checks).into_axum_router()
}

#[bounded::test]
async fn the_main_port_serves_every_method_that_it_describes() {
    let directory = tempfile::tempdir().expect("a directory");
    let port = main_port(directory.path()).await;
    let methods: Vec<_> = methods().collect();
    assert!(methods.len() > 30, "{methods:?}");
    for method in methods {
        // An empty message, which is no reason to say that there is no such method.
        let request = Request::post(format!("/{method}"))
            .header("content-type", "application/grpc")
            .body(Body::from(Bytes::from_static(&[0; 5])))
            .expect("a request");
        let response = port.clone().oneshot(request).await.expect("a response");
        let unimplemented = response.headers().get("grpc-status");
        assert!(
            unimplemented.is_none_or(|status| status != "12"),
            "{method} is not served: its service is to be one of the `Apis`"
        );
    }
}

#[bounded::test]
fn every_method_of_the_open_inference_protocol_takes_large_requests_or_small_ones() {
    let methods: Vec<_> = methods()
        .filter(|method| method.starts_with("inference."))
        .collect();
    let known = LARGE.iter().chain(&SMALL);
    assert_eq!(
        methods.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        known.copied().collect()
    );
}
