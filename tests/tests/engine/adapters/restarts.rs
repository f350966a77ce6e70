//! Adapters are kept with their model.

use anyhow::Result;
use hangar_client::v1::ModelState;
use hangar_tests::{
    fixtures::{Lora, Shape},
    installation::Installation,
};

use super::{answer_to, demo, generate_text, info, radio, with_adapter};

#[hangar_tests::test]
async fn a_model_comes_back_with_its_adapters_after_a_kill() -> Result<()> {
    let installation = Installation::real()?;
    let lora = Lora::random(&Shape::TINY, 4, 1);
    let path = installation.fixtures.adapter("adapter", &lora)?;
    let spec = with_adapter(&installation.fixtures.llama()?, &path);
    let server = installation.start().await?;
    let client = server.connect().await?;
    client.load("m").spec(spec.clone()).wait().await?;
    let load = client.load("radio").spec(demo(vec![radio()]));
    load.wait().await?;
    let question = "What is Hangar?";
    let before = (
        generate_text(&client, "m").await?,
        answer_to(&client, "radio", question).await?,
    );
    installation.kill(server).await?;

    let server = installation.start().await?;
    let client = server.connect().await?;
    for id in ["m", "radio"] {
        server.follow(id).await?.until(ModelState::Ready).await?;
    }
    let after = (
        generate_text(&client, "m").await?,
        answer_to(&client, "radio", question).await?,
    );
    assert_eq!(before, after);
    let kept = info(&client, "m").await?.spec.unwrap_or_default();
    assert_eq!(kept.adapters, spec.adapters);
    let kept = info(&client, "radio").await?.spec.unwrap_or_default();
    assert_eq!(kept.adapters, [radio()]);
    // The same spec is no conflict.
    assert!(client.load("m").spec(spec).wait().await?.already_loaded);
    server.terminate().await?;
    Ok(())
}
