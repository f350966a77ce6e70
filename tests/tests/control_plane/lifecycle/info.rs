//! GetInfo: one consistent picture of server, system and models.

use std::path::Path;

use anyhow::{Context, Result};
use hangar_client::v1::{
    DataType, DesiredState, InfoView, ModelFormat, ModelKind, ModelMetadata, ModelState,
};
use hangar_tests::{
    fixtures::{Family, Fixtures, Quantization, Shape},
    processes,
    scripted::{LoadKind, Script},
    server::{TestServer, spec},
};

use super::greedy;

async fn metadata(path: &Path, fixtures: &Fixtures) -> Result<ModelMetadata> {
    let server = TestServer::real().fixtures(fixtures).start().await?;
    let client = server.connect().await?;
    client.load("m").spec(spec(path)).wait().await?;
    greedy(&client, "m", "Hello").await?;
    let info = client.info().model("m").send().await?;
    let model = info.models.into_iter().next().context("a model")?;
    let metadata = model.metadata.context("metadata")?;
    assert!(
        metadata.source.contains(&*path.to_string_lossy()),
        "{}",
        metadata.source
    );
    assert!(metadata.load_duration.is_some() && metadata.loaded_time.is_some());
    assert!(metadata.last_used_time.is_some());
    assert_eq!(metadata.kind(), ModelKind::Text);
    assert_eq!(metadata.input_modalities, ["text"]);
    assert_eq!(metadata.output_modalities, ["text"]);
    assert_eq!(metadata.context_length, 256);
    assert_eq!(metadata.trained_context_length, 256);
    assert_eq!(metadata.device, "cpu");
    assert!(!metadata.model_name.is_empty() && !metadata.is_lora);
    Ok(metadata)
}

#[hangar_tests::test]
async fn a_llama_directory_is_described() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.llama()?;
    let metadata = metadata(&path, &fixtures).await?;
    let size = std::fs::metadata(path.join("model.safetensors"))?.len();
    assert_eq!(metadata.size_bytes, size);
    assert_eq!(metadata.architecture, "LlamaForCausalLM");
    assert_eq!(metadata.format(), ModelFormat::Safetensors);
    assert_eq!(metadata.dtype(), DataType::F32);
    assert_eq!(metadata.quantization, "");
    assert_eq!(
        metadata.parameter_count,
        Shape::TINY.parameters(Family::Llama) as u64
    );
    assert_eq!(metadata.vocabulary_size as usize, Shape::TINY.vocabulary);
    assert_eq!(metadata.model_name, "llama");
    assert!(!metadata.tokenizer_id.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn a_qwen3_directory_is_described() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let metadata = metadata(&fixtures.qwen3()?, &fixtures).await?;
    assert_eq!(metadata.architecture, "Qwen3ForCausalLM");
    assert_eq!(metadata.format(), ModelFormat::Safetensors);
    assert_eq!(
        metadata.parameter_count,
        Shape::TINY.parameters(Family::Qwen3) as u64
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_gguf_file_is_described() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.llama_gguf(Quantization::Q8_0)?;
    let metadata = metadata(&path, &fixtures).await?;
    assert_eq!(metadata.architecture, "llama");
    assert_eq!(metadata.format(), ModelFormat::Gguf);
    assert_eq!(metadata.quantization, "Q8_0");
    assert_eq!(metadata.size_bytes, std::fs::metadata(&path)?.len());
    // A GGUF vocabulary has one token more: that for what is unknown.
    let shape = Shape {
        vocabulary: Shape::TINY.vocabulary + 1,
        ..Shape::TINY
    };
    assert_eq!(
        metadata.parameter_count,
        shape.parameters(Family::Llama) as u64
    );
    assert_eq!(metadata.vocabulary_size as usize, shape.vocabulary);
    assert!(!metadata.tokenizer_id.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn desired_state_is_reported_beside_the_state() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::loading(LoadKind::Error))
        .start()
        .await?;
    assert!(server.load_m().wait().await.is_err());
    let info = server.info().await?;
    assert_eq!(info.desired_state(), DesiredState::Loaded);
    assert_eq!(info.status.context("a status")?.state(), ModelState::Failed);
    server.client.unload("m").send().await?;
    let info = server.info().await?;
    assert_eq!(info.desired_state(), DesiredState::Unloaded);
    assert_eq!(info.version, 1);
    assert!(!info.etag.is_empty() && !info.reload_required);
    assert!(info.aliases.is_empty() && info.holders.is_empty());
    let sent = server.spec();
    let reported = info.spec.context("a spec")?;
    assert_eq!(
        (reported.source, reported.restart_policy.map(|p| p.mode)),
        (sent.source, sent.restart_policy.map(|p| p.mode))
    );
    Ok(())
}

#[hangar_tests::test]
async fn the_server_and_its_system_are_described() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    server.ready().await?;
    let info = server.client.info().send().await?;
    let about = info.server.context("a server")?;
    assert_eq!(about.engine, "mistral.rs");
    assert_eq!(about.engine_version, "scripted");
    assert_eq!(about.engine_kernels, "scripted");
    assert!(!about.version.is_empty() && !about.epoch.is_empty());
    assert!(about.start_time.is_some() && about.uptime.is_some());
    let system = info.system.context("a system")?;
    assert!((0.1..4096.0).contains(&system.cpu_cores));
    assert!(
        system
            .cpu_usage
            .is_none_or(|usage| (0.0..=1.0).contains(&usage))
    );
    assert!(system.memory_total_bytes > 64 << 20);
    assert!(system.memory_available_bytes < system.memory_total_bytes);
    assert!(system.disk_total_bytes > 0 && system.disk_available_bytes <= system.disk_total_bytes);
    assert_eq!(
        system.platform,
        "linux ".to_owned() + std::env::consts::ARCH
    );
    let seen = processes::host_bytes(server.pid())?;
    let reported = system.memory_server_bytes;
    // Between the two looks it may take a little.
    let slack = seen / 2 + (4 << 20);
    assert!(
        reported.abs_diff(seen) < slack,
        "{reported} reported, {seen} seen"
    );
    assert!(system.memory_models_bytes > 0);
    assert!(info.devices.is_empty() && !info.truncated);
    let cache = info.cache.context("a cache of prepared weights")?;
    assert_eq!((cache.entries, cache.hits, cache.misses), (0, 0, 0));
    assert_eq!(cache.hit_rate, None);
    Ok(())
}

#[hangar_tests::test]
async fn the_empty_request_returns_the_basics_of_all_models() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    assert!(server.client.info().send().await?.models.is_empty());
    for id in ["z", "a/b"] {
        server.client.load(id).spec(server.spec()).wait().await?;
    }
    server.ready().await?;
    let models = server.client.info().send().await?.models;
    let ids: Vec<_> = models.iter().map(|model| model.model_id.as_str()).collect();
    assert_eq!(ids, ["a/b", "m", "z"]);
    assert!(
        models
            .iter()
            .all(|model| model.spec.is_none() && model.metrics.is_none())
    );
    let full = server
        .client
        .info()
        .view(InfoView::Full)
        .metrics()
        .send()
        .await?
        .models;
    assert!(
        full.iter()
            .all(|model| model.spec.is_some() && model.metrics.is_some())
    );
    assert!(full.iter().all(|model| model.recent_loads.len() == 1));
    Ok(())
}
