//! A caller that goes away ends its waiting, and not what it began.

use anyhow::Result;
use hangar_client::{
    inference::{
        RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    v1::ModelState::{Ready, Unloaded},
};
use hangar_tests::{
    background::Background,
    failpoints::Failpoints,
    scripted::Script,
    server::{TestServer, spec},
};

#[hangar_tests::test]
async fn a_load_is_carried_out_whose_caller_goes_while_it_is_written_down() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    let mut transitions = server.follow("m").await?;
    // Whatever the start of the server writes is written before.
    let other = server.client.create_model("n", spec(&server.directory));
    other.send().await?;

    let blocked = failpoints.block("catalog-write")?;
    let client = server.connect().await?;
    let waiting = Background::start(client.load("m").spec(server.spec()).wait());
    blocked.reached().await?;
    // Takes the call and its connection along.
    drop((waiting, client));
    drop(blocked);
    transitions.until(Ready).await?;
    assert!(server.stubs.is_desired("m").await?);
    Ok(())
}

#[hangar_tests::test]
async fn so_are_loads_and_unloads_of_the_open_inference_protocol() -> Result<()> {
    let failpoints = Failpoints::new()?;
    let server = TestServer::scripted()
        .script(&Script::default())
        .failpoints(&failpoints)
        .start()
        .await?;
    let mut transitions = server.follow("m").await?;
    server
        .client
        .create_model("m", server.spec())
        .send()
        .await?;

    let blocked = failpoints.block("catalog-write")?;
    let client = server.connect().await?;
    let mut stub = GrpcInferenceServiceClient::new(client.transport());
    let request = RepositoryModelLoadRequest {
        model_name: "m".into(),
        ..RepositoryModelLoadRequest::default()
    };
    let waiting = Background::start(async move { stub.repository_model_load(request).await });
    blocked.reached().await?;
    drop((waiting, client));
    drop(blocked);
    transitions.until(Ready).await?;
    assert!(server.stubs.is_desired("m").await?);

    // What the load writes when it has ended is written before.
    let other = server.client.create_model("n", spec(&server.directory));
    other.send().await?;
    let blocked = failpoints.block("catalog-write")?;
    let client = server.connect().await?;
    let mut stub = GrpcInferenceServiceClient::new(client.transport());
    let request = RepositoryModelUnloadRequest {
        model_name: "m".into(),
        ..RepositoryModelUnloadRequest::default()
    };
    let waiting = Background::start(async move { stub.repository_model_unload(request).await });
    blocked.reached().await?;
    drop((waiting, client));
    drop(blocked);
    transitions.until(Unloaded).await?;
    assert!(!server.stubs.is_desired("m").await?);
    Ok(())
}
