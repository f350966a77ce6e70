//! What is reported of embedding models and of what they do.

use anyhow::{Context, Result};
use hangar_client::v1::{DataType, ModelFormat, ModelKind};
use hangar_tests::{fixtures::Embedding, metrics::Metrics, server::TestServer};

use super::Vectors;

#[hangar_tests::test]
async fn metadata_describes_an_embedding_model() -> Result<()> {
    for kind in Embedding::ALL {
        let server = TestServer::embedding(kind).await?;
        let metadata = server.info().await?.metadata.context("metadata")?;
        assert_eq!(metadata.kind(), ModelKind::Embedding);
        assert_eq!(metadata.architecture, kind.architecture());
        assert_eq!(metadata.input_modalities, ["text"]);
        assert_eq!(metadata.output_modalities, ["embedding"]);
        assert_eq!(metadata.embedding_size as usize, kind.size());
        assert_eq!(metadata.context_length, 256);
        assert_eq!(metadata.trained_context_length, 256);
        assert_eq!(metadata.vocabulary_size, 261);
        assert_eq!(metadata.format(), ModelFormat::Safetensors);
        assert_eq!(metadata.dtype(), DataType::F32);
        let dense = match kind {
            Embedding::Qwen3 => 0,
            Embedding::Gemma => 32 * 64,
        };
        let norms = dense + Embedding::SHAPE.vocabulary as u64;
        assert!(metadata.parameter_count > norms, "{metadata:?}");
        assert!(metadata.size_bytes >= 4 * metadata.parameter_count);
        let status = server.info().await?.status.context("a status")?;
        let held = status.memory.context("memory")?.host_bytes;
        assert!(held > 0 && held < 256 << 20, "{held}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn requests_are_counted_by_their_operation() -> Result<()> {
    let server = TestServer::embedding(Embedding::Gemma).await?;
    for _ in 0..3 {
        server.vectors(["one", "two"]).await?;
    }
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!((metrics.requests_total, metrics.requests_succeeded), (3, 3));
    assert_eq!(metrics.success_rate, Some(1.0));
    assert_eq!((metrics.in_flight, metrics.queued), (0, 0));
    assert_eq!(metrics.prompt_tokens, 3 * (3 + 2 + 3 + 2));
    let exported = Metrics::of(server.ops_listen()).await?;
    let labels = [
        ("gen_ai_operation_name", "embeddings"),
        ("gen_ai_request_model", "m"),
    ];
    let count = "gen_ai_server_request_duration_seconds_count";
    assert_eq!(exported.value(count, &labels), Some(3.0));
    let first = "gen_ai_server_time_to_first_token_seconds_count";
    assert_eq!(exported.value(first, &labels), None);
    Ok(())
}
