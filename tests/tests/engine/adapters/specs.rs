//! Adapters of a spec: what is checked before anything is loaded, and what a change of them does.

use std::os::unix::fs::symlink;

use anyhow::Result;
use hangar_client::v1::{DemoSource, ErrorReason, LoraAdapter, ModelState};
use hangar_tests::{
    fixtures::{Fixtures, Lora, Shape},
    refusals::{refusal, wrong_fields},
    server::{TestServer, spec},
};
use tonic::Code;

use super::{adapter, answer_to, demo, generate_text, info, radio, with_adapter};

#[hangar_tests::test]
async fn every_violation_names_its_adapter() -> Result<()> {
    let server = TestServer::real().start().await?;
    let path = server.fixtures.root();
    let adapters = vec![
        adapter("good", &path),
        adapter("good", &path),
        adapter("a b", &path),
        LoraAdapter {
            name: "both".into(),
            demo: Some(DemoSource {}),
            ..adapter("both", &path)
        },
        LoraAdapter::default(),
    ];
    let fields = wrong_fields(server.load("m", demo(adapters)).await);
    let expected = [
        "spec.adapters[1].name",
        "spec.adapters[2].name",
        "spec.adapters[3].path",
        "spec.adapters[4].name",
        "spec.adapters[4].path",
    ];
    assert_eq!(fields, expected);
    let many = (0..9).map(|n| adapter(&format!("a{n}"), &path)).collect();
    let fields = wrong_fields(server.load("m", demo(many)).await);
    assert_eq!(fields, ["spec.adapters"]);
    Ok(())
}

#[hangar_tests::test]
async fn adapters_lie_below_a_model_root_with_all_that_they_link_to() -> Result<()> {
    let server = TestServer::real().start().await?;
    let lora = Lora::random(&Shape::TINY, 4, 1);
    let path = server.fixtures.adapter("adapter", &lora)?;
    let outside = server.fixtures.outside().join("adapter");
    std::fs::rename(&path, &outside)?;
    let (link, file_link) = (server.fixtures.root().join("link"), path);
    symlink(&outside, &link)?;
    std::fs::create_dir(&file_link)?;
    let weights = "adapter_model.safetensors";
    symlink(outside.join(weights), file_link.join(weights))?;
    for path in [&outside, &link, &file_link, &outside.join("none")] {
        let load = server
            .load("m", with_adapter(&server.fixtures.llama()?, path))
            .await;
        let refusal = refusal(load, Code::PermissionDenied, ErrorReason::SourceNotAllowed);
        assert!(refusal.message().contains("--model-root"), "{refusal}");
        let unknown = server.client.info().model("m").send().await;
        self::refusal(unknown, Code::NotFound, ErrorReason::ModelNotFound);
    }
    Ok(())
}

#[hangar_tests::test]
async fn links_within_the_roots_are_followed() -> Result<()> {
    let server = TestServer::real().start().await?;
    let lora = Lora::random(&Shape::TINY, 4, 1);
    let path = server.fixtures.adapter("adapter", &lora)?;
    let link = server.fixtures.root().join("link");
    symlink(&path, &link)?;
    let model = server.fixtures.llama()?;
    server.load("link", with_adapter(&model, &link)).await?;
    server.load("path", with_adapter(&model, &path)).await?;
    let answer = generate_text(&server.client, "link").await?;
    assert_eq!(answer, generate_text(&server.client, "path").await?);
    Ok(())
}

#[hangar_tests::test]
async fn other_adapters_are_another_spec_which_takes_a_reload() -> Result<()> {
    let server = TestServer::real().start().await?;
    server.load("m", demo(vec![])).await?;
    let question = "What is Hangar?";
    let plain = answer_to(&server.client, "m", question).await?;
    let load = server.load("m", demo(vec![radio()])).await;
    refusal(load, Code::FailedPrecondition, ErrorReason::SpecConflict);

    let edit = server.client.edit_model("m");
    let update = edit.send(|model| model.spec.get_or_insert_default().adapters = vec![radio()]);
    assert!(update.await?.is_some_and(|update| update.reload_required));
    assert_eq!(answer_to(&server.client, "m", question).await?, plain);
    assert!(info(&server.client, "m").await?.reload_required);

    server.client.load("m").force_reload().wait().await?;
    let changed = answer_to(&server.client, "m", question).await?;
    assert_ne!(changed, plain);
    let reported = info(&server.client, "m").await?;
    assert!(!reported.reload_required && reported.metadata.is_some_and(|it| it.is_lora));

    let reload = server.client.load("m").spec(demo(vec![])).force_reload();
    reload.wait().await?;
    assert_eq!(answer_to(&server.client, "m", question).await?, plain);
    Ok(())
}

#[hangar_tests::test]
async fn a_declared_model_has_its_adapters() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let lora = Lora::random(&Shape::TINY, 4, 1);
    let path = fixtures.adapter("adapter", &lora)?;
    let model = fixtures.llama()?;
    let file = fixtures.outside().join("hangar.toml");
    let text = format!(
        "[[models]]\nid = \"radio\"\nsource = \"demo\"\npreload = true\nadapters = [{{ name = \"radio\", demo = \
         true }}]\n[[models]]\nid = \"m\"\nsource = {{ path = {model:?} }}\npreload = true\nadapters = [{{ name = \
         \"one\", path = {path:?} }}]\n"
    );
    std::fs::write(&file, text)?;
    let options = TestServer::real()
        .fixtures(&fixtures)
        .argument("--config")
        .argument(&file);
    let server = options.start().await?;
    let client = server.connect().await?;
    for (id, name) in [("radio", "radio"), ("m", "one")] {
        server.follow(id).await?.until(ModelState::Ready).await?;
        let metadata = info(&client, id).await?.metadata.unwrap_or_default();
        assert_eq!(metadata.adapters, [name]);
    }
    client.load("base").spec(spec(&model)).wait().await?;
    let answer = generate_text(&client, "m").await?;
    assert_ne!(answer, generate_text(&client, "base").await?);
    Ok(())
}
