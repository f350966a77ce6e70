//! Random adapters of tiny models: the answers are those of weights that were changed by hand.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use hangar_client::v1::ModelSpec;
use hangar_tests::{
    fixtures::{Lora, Shape},
    server::{TestServer, spec},
};
use serde_json::json;

use super::{adapter, generate_text, info, with_adapter};

/// A copy of a model with adapters merged in, each with its scale.
fn merged(
    server: &TestServer,
    model: &Path,
    name: &str,
    adapters: &[(&Lora, f32)],
) -> Result<PathBuf> {
    let directory = server.fixtures.directory(name)?;
    for entry in fs::read_dir(model)? {
        let entry = entry?;
        fs::copy(entry.path(), directory.join(entry.file_name()))?;
    }
    for (lora, scale) in adapters {
        lora.merge_into(&directory, *scale)?;
    }
    Ok(directory)
}

#[hangar_tests::test]
async fn an_adapter_has_the_effect_that_its_files_say() -> Result<()> {
    let server = TestServer::real().start().await?;
    let model = server.fixtures.llama()?;
    server.load("base", spec(&model)).await?;
    let base = generate_text(&server.client, "base").await?;
    let lora = Lora::random(&Shape::TINY, 4, 1);
    let partial = lora.clone().without("layers.0.");
    let cases = [
        ("plain", lora.clone(), 2.0),
        ("without-prefix", lora.clone().without_prefix(), 2.0),
        (
            "rank-stabilised",
            lora.clone().set("use_rslora", json!(true)),
            4.0,
        ),
        ("scaled", lora.set("lora_alpha", json!(-3.0)), -0.75),
        (
            "one-layer",
            partial.set("layers_to_transform", json!([1])),
            2.0,
        ),
    ];
    let mut all = vec![base];
    for (name, lora, scale) in cases {
        let path = server.fixtures.adapter(&format!("{name}-adapter"), &lora)?;
        server.load(name, with_adapter(&model, &path)).await?;
        let by_hand = merged(&server, &model, name, &[(&lora, scale)])?;
        let id = format!("{name}-by-hand");
        server.load(&id, spec(&by_hand)).await?;
        let answer = generate_text(&server.client, name).await?;
        assert_eq!(answer, generate_text(&server.client, &id).await?, "{name}");
        all.push(answer);
        for id in [name, &id] {
            server.client.unload(id).send().await?;
        }
    }
    // With and without the prefix it is the same adapter.
    assert_eq!(all.remove(2), all[1]);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5, "{all:?}");
    Ok(())
}

#[hangar_tests::test]
async fn several_adapters_add_up() -> Result<()> {
    let server = TestServer::real().start().await?;
    let model = server.fixtures.llama()?;
    let (one, two) = (
        Lora::random(&Shape::TINY, 4, 1),
        Lora::random(&Shape::TINY, 2, 2),
    );
    let spec_of = |names: &[(&str, &Lora)]| -> Result<ModelSpec> {
        let adapters = names.iter().map(|(name, lora)| {
            let path = server.fixtures.adapter(&format!("adapter-{name}"), lora)?;
            Ok(adapter(name, &path))
        });
        Ok(ModelSpec {
            adapters: adapters.collect::<Result<_>>()?,
            ..spec(&model)
        })
    };
    server
        .load("both", spec_of(&[("one", &one), ("two", &two)])?)
        .await?;
    server.load("one", spec_of(&[("one", &one)])?).await?;
    let by_hand = merged(&server, &model, "by-hand", &[(&one, 2.0), (&two, 2.0)])?;
    server.load("by-hand", spec(&by_hand)).await?;
    let both = generate_text(&server.client, "both").await?;
    assert_eq!(both, generate_text(&server.client, "by-hand").await?);
    assert_ne!(both, generate_text(&server.client, "one").await?);
    let metadata = info(&server.client, "both").await?.metadata;
    let metadata = metadata.context("metadata")?;
    assert_eq!(metadata.adapters, ["one", "two"]);
    assert_eq!(
        (metadata.lora_rank, &*metadata.base_model),
        (4, "tiny/base")
    );
    Ok(())
}

#[hangar_tests::test]
async fn quantized_weights_have_the_adapter_in_them() -> Result<()> {
    let server = TestServer::real().start().await?;
    let model = server.fixtures.wide_llama()?;
    let lora = Lora::random(&Shape::WIDE, 8, 3);
    let path = server.fixtures.adapter("adapter", &lora)?;
    let by_hand = merged(&server, &model, "by-hand", &[(&lora, 2.0)])?;
    let models = [
        ("base", spec(&model)),
        ("adapted", with_adapter(&model, &path)),
        ("by-hand", spec(&by_hand)),
    ];
    let mut answers = Vec::new();
    for (name, spec) in models {
        let quantization = "q4k".to_owned();
        server
            .load(
                name,
                ModelSpec {
                    quantization,
                    ..spec
                },
            )
            .await?;
        answers.push(generate_text(&server.client, name).await?);
    }
    assert_eq!(answers[1], answers[2]);
    assert_ne!(answers[0], answers[1]);
    Ok(())
}
