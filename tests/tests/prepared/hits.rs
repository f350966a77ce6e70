//! The second load reads what the first one has prepared.

use anyhow::Result;
use hangar_client::v1::{DataType, ModelSpec};
use hangar_tests::{hangar::spec, metrics::Metrics};

use crate::House;

#[tokio::test]
async fn the_second_load_reads_prepared_weights_and_answers_the_same() -> Result<()> {
    let house = House::new().await?;
    for quantization in ["q4k", "q8_0"] {
        let model = house.model(quantization)?;
        let first = house.first_turn(&model).await?;
        for _ in 0..2 {
            let (metadata, answer) = house.turn(&model).await?;
            assert!(metadata.prepared, "{quantization}");
            assert_eq!(metadata.quantization, quantization.to_uppercase());
            assert_eq!(answer, first, "{quantization}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn prepared_weights_outlive_the_server() -> Result<()> {
    let house = House::new().await?;
    let model = house.model("q4k")?;
    let first = house.first_turn(&model).await?;
    let house = house.restarted().await?;
    assert_eq!(house.cache().await?.entries, 1);
    let (metadata, answer) = house.turn(&model).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, first);
    Ok(())
}

#[tokio::test]
async fn other_families_are_prepared_too() -> Result<()> {
    let house = House::new().await?;
    let model = ModelSpec {
        quantization: "q8_0".to_owned(),
        ..spec(&house.fixtures.qwen3()?)
    };
    let first = house.first_turn(&model).await?;
    let (metadata, answer) = house.turn(&model).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, first);
    Ok(())
}

#[tokio::test]
async fn each_setting_has_an_entry_of_its_own() -> Result<()> {
    let house = House::new().await?;
    let q4k = house.model("q4k")?;
    let f16 = ModelSpec {
        dtype: DataType::F16.into(),
        ..q4k.clone()
    };
    for model in [&q4k, &house.model("q8_0")?, &f16] {
        house.first_turn(model).await?;
    }
    assert_eq!(house.names()?.len(), 3);
    // How a model is used is no setting of its weights.
    let shorter = ModelSpec {
        context_length: 128,
        ..q4k
    };
    assert!(house.turn(&shorter).await?.0.prepared);
    Ok(())
}

#[tokio::test]
async fn info_and_metrics_tell_hits_and_misses() -> Result<()> {
    let house = House::new().await?;
    let empty = house.cache().await?;
    assert_eq!((empty.hits, empty.misses, empty.hit_rate), (0, 0, None));
    assert_eq!(empty.directory, house.directory().display().to_string());

    // A load that does not ask for prepared weights is neither.
    house.turn(&spec(&house.fixtures.wide_llama()?)).await?;
    assert_eq!(house.cache().await?, empty);

    let model = house.model("q4k")?;
    house.first_turn(&model).await?;
    for _ in 0..3 {
        house.turn(&model).await?;
    }
    let cache = house.cache().await?;
    assert_eq!((cache.hits, cache.misses), (3, 1));
    assert_eq!(cache.hit_rate, Some(0.75));
    let mut size = 0;
    for file in std::fs::read_dir(house.entry()?)? {
        size += file?.metadata()?.len();
    }
    assert_eq!((cache.entries, cache.size_bytes), (1, size));

    let metrics = Metrics::of(house.hangar.ops_listen()).await?;
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
