//! Which quantizations there are.

use anyhow::Result;
use hangar_client::v1::ErrorReason;
use hangar_tests::{fixtures::Quantization, refusals::refusal};
use tonic::Code;

use super::{PreparedServer, quantized};

const TYPES: [&str; 10] = [
    "q2k", "q3k", "q4k", "q5k", "q6k", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0",
];

#[hangar_tests::test]
async fn every_type_that_is_offered_answers_and_can_be_prepared() -> Result<()> {
    let server = PreparedServer::new().await?;
    for quantization in TYPES {
        let model = server.model(quantization)?;
        let first = server.first_turn(&model).await?;
        let (metadata, answer) = server.turn(&model).await?;
        assert!(metadata.prepared, "{quantization}");
        assert_eq!(answer, first, "{quantization}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_unknown_type_is_refused_with_the_list() -> Result<()> {
    let server = PreparedServer::new().await?;
    for quantization in ["q9", "afq4", "hqq8"] {
        let load = server.client.load("m").spec(server.model(quantization)?);
        let refusal = refusal(
            load.force_reload().wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        for word in TYPES.iter().chain([&quantization]) {
            assert!(refusal.message().contains(word), "{refusal:?}");
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_gguf_file_cannot_be_quantized() -> Result<()> {
    let server = PreparedServer::new().await?;
    let path = server.fixtures.llama_gguf(Quantization::F32)?;
    let load = server.client.load("m").spec(quantized(&path, "q4k"));
    let refusal = refusal(
        load.wait().await,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    assert!(refusal.message().contains("GGUF"), "{refusal:?}");
    Ok(())
}

#[hangar_tests::test]
async fn rows_that_fill_no_blocks_are_no_error() -> Result<()> {
    let server = PreparedServer::new().await?;
    // Rows of 64 numbers, where q4k has blocks of 256.
    let model = quantized(&server.fixtures.llama()?, "q4k");
    let first = server.first_turn(&model).await?;
    let (metadata, answer) = server.turn(&model).await?;
    assert!(metadata.prepared);
    assert_eq!(answer, first);
    Ok(())
}
