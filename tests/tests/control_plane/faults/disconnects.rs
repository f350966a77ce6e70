//! A caller that goes away ends its waiting, and not what it began.

use anyhow::Result;
use hangar_client::v1::ModelState::Ready;
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
