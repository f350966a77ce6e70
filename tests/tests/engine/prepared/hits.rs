//! The second load reads what the first one has prepared.

use anyhow::Result;
use hangar_client::v1::{DataType, ModelSpec};
use hangar_tests::{fixtures::Reference, metrics::Metrics, server::spec};

use super::PreparedServer;

#[hangar_tests::test]
async fn the_second_load_reads_prepared_weights_and_answers_the_same() -> Result<()> {
    let server = PreparedServer::new().await?;
    for quantization in ["q4k", "q8_0"] {
        let model = server.model(quantization)?;
        let first = server.first_turn(&model).await?;
        for _ in 0..2 {
            let (metadata, answer) = server.turn(&model).await?;
            assert!(metadata.prepared, "{quantization}");
            assert_eq!(metadata.quantization, quantization.to_uppercase());
            assert_eq!(answer, first, "{quantization}");
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn prepared_weights_outlive_the_server() -> Result<()> {
    let server = PreparedServer::new().await?;
    let model = server.model("q4k")?;
    let first = server.first_turn(&model).await?;
    let server = server.restarted().await?;
    assert_eq!(server.cache().await?.entries, 1);
    let (metadata, answer) = server.turn(&model).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, first);
    Ok(())
}

#[hangar_tests::test]
async fn other_families_are_prepared_too() -> Result<()> {
    let server = PreparedServer::new().await?;
    let model = ModelSpec {
        quantization: "q8_0".to_owned(),
        ..spec(&server.fixtures.qwen3()?)
    };
    let first = server.first_turn(&model).await?;
    let (metadata, answer) = server.turn(&model).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, first);
    Ok(())
}

#[hangar_tests::test]
async fn a_text_model_with_a_loader_for_images_is_quantized_and_prepared() -> Result<()> {
    let server = PreparedServer::new().await?;
    let model = Reference::named("gemma3-scalar")?;
    let path = server.fixtures.reference(&model)?;
    let spec = ModelSpec {
        quantization: "q8_0".to_owned(),
        ..spec(&path)
    };
    let first = server.first_turn(&spec).await?;
    let (metadata, answer) = server.turn(&spec).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, first);
    // With its layers as they were, and the head beside the embedding, it would be larger than the model.
    let size = path.join("model.safetensors").metadata()?.len();
    let prepared = server.cache().await?.size_bytes;
    assert!(prepared < size, "{prepared} of {size} bytes");
    Ok(())
}

#[hangar_tests::test]
async fn each_setting_has_an_entry_of_its_own() -> Result<()> {
    let server = PreparedServer::new().await?;
    let q4k = server.model("q4k")?;
    let f16 = ModelSpec {
        dtype: DataType::F16.into(),
        ..q4k.clone()
    };
    for model in [&q4k, &server.model("q8_0")?, &f16] {
        server.first_turn(model).await?;
    }
    assert_eq!(server.names()?.len(), 3);
    // How a model is used is no setting of its weights.
    let shorter = ModelSpec {
        context_length: 128,
        ..q4k
    };
    assert!(server.turn(&shorter).await?.0.prepared);
    Ok(())
}

#[hangar_tests::test]
async fn info_and_metrics_count_hits_and_misses() -> Result<()> {
    let server = PreparedServer::new().await?;
    let empty = server.cache().await?;
    assert_eq!((empty.hits, empty.misses, empty.hit_rate), (0, 0, None));
    assert_eq!(empty.directory, server.directory().display().to_string());

    // A load that does not ask for prepared weights is neither.
    server.turn(&spec(&server.fixtures.wide_llama()?)).await?;
    assert_eq!(server.cache().await?, empty);

    let model = server.model("q4k")?;
    server.first_turn(&model).await?;
    for _ in 0..3 {
        server.turn(&model).await?;
    }
    let cache = server.cache().await?;
    assert_eq!((cache.hits, cache.misses), (3, 1));
    assert_eq!(cache.hit_rate, Some(0.75));
    let mut size = 0;
    for file in std::fs::read_dir(server.entry()?)? {
        size += file?.metadata()?.len();
    }
    assert_eq!((cache.entries, cache.size_bytes), (1, size));

    let metrics = Metrics::of(server.ops_listen()).await?;
    let values = [
        "hangar_cache_hits_total",
        "hangar_cache_misses_total",
        "hangar_cache_entries",
        "hangar_cache_size_bytes",
    ]
    .map(|name| metrics.value(name, &[]));
    assert_eq!(values, [3.0, 1.0, 1.0, size as f64].map(Some));
    Ok(())
}
