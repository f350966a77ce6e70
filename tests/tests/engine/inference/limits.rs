//! Lengths: of answers, of prompts, of both together.

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, FinishReason};
use hangar_tests::{
    refusals::{refusal, wrong_fields},
    server::TestServer,
};
use tonic::Code;

use super::{greedy_request, responses, tokens_of};

/// Context of the tiny Llama in tokens.
const CONTEXT: usize = 256;

#[hangar_tests::test]
async fn an_answer_has_exactly_as_many_tokens_as_were_allowed() -> Result<()> {
    let server = TestServer::tiny().await?;
    for max_tokens in [1, 2, 3, 17, 100] {
        let request = greedy_request("Hello", max_tokens);
        let (chunks, done) = responses(&server.client, request).await?;
        assert_eq!(tokens_of(&chunks).len(), max_tokens as usize);
        assert_eq!(done.usage.unwrap_or_default().completion_tokens, max_tokens);
        assert_eq!(done.finish_reason(), FinishReason::Length);
    }
    Ok(())
}

#[hangar_tests::test]
async fn without_max_tokens_an_answer_fills_the_context() -> Result<()> {
    let server = TestServer::tiny().await?;
    for prompt in [1, 200, CONTEXT - 1] {
        let answer = server.greedy(&"x".repeat(prompt)).text().await?;
        let usage = answer.done.usage.unwrap_or_default();
        assert_eq!(usage.prompt_tokens as usize, prompt);
        assert_eq!(usage.completion_tokens as usize, CONTEXT - prompt);
        assert_eq!(answer.done.finish_reason(), FinishReason::Length);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_prompt_that_fills_the_context_is_refused() -> Result<()> {
    let server = TestServer::tiny().await?;
    let worker = server.worker().await?;
    for length in [CONTEXT, CONTEXT + 1, 10_000, 4 << 20] {
        let answer = server.greedy(&"x".repeat(length)).text().await;
        let refusal = refusal(answer, Code::InvalidArgument, ErrorReason::ContextExceeded);
        assert_eq!(refusal.details().fields[0].subject, "prompt");
        // As many tokens as bytes.
        assert!(refusal.message().contains(&length.to_string()), "{refusal}");
    }
    let chat = server
        .client
        .generate("m")
        .message("user", "x".repeat(CONTEXT));
    let refusal = refusal(
        chat.text().await,
        Code::InvalidArgument,
        ErrorReason::ContextExceeded,
    );
    assert_eq!(refusal.details().fields[0].subject, "messages");
    assert_eq!(server.greedy("x").max_tokens(3).text().await?.text.len(), 3);
    assert_eq!(server.worker().await?, worker);
    Ok(())
}

#[hangar_tests::test]
async fn an_empty_prompt_is_refused() -> Result<()> {
    let server = TestServer::tiny().await?;
    assert_eq!(wrong_fields(server.greedy("").text().await), ["prompt"]);
    Ok(())
}

#[hangar_tests::test]
async fn prompt_and_answer_together_have_to_fit() -> Result<()> {
    let server = TestServer::tiny().await?;
    let prompt = "x".repeat(100);
    let fits = server.greedy(&prompt).max_tokens(156).text().await?;
    assert_eq!(fits.done.usage.unwrap_or_default().completion_tokens, 156);
    for max_tokens in [157, 1000, u32::MAX] {
        let answer = server.greedy(&prompt).max_tokens(max_tokens).text().await;
        let refusal = refusal(answer, Code::InvalidArgument, ErrorReason::ContextExceeded);
        assert_eq!(refusal.details().fields[0].subject, "max_tokens");
        assert!(refusal.message().contains("156"), "{refusal}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_specs_context_length_is_the_limit() -> Result<()> {
    let server = TestServer::tiny_with(|spec| spec.context_length = 64).await?;
    let metadata = server.info().await?.metadata.context("metadata")?;
    assert_eq!(
        (metadata.context_length, metadata.trained_context_length),
        (64, 256)
    );
    let answer = server.greedy("Hello").text().await?;
    assert_eq!(answer.done.usage.unwrap_or_default().completion_tokens, 59);
    let answer = server.greedy(&"x".repeat(64)).text().await;
    refusal(answer, Code::InvalidArgument, ErrorReason::ContextExceeded);
    Ok(())
}

#[hangar_tests::test]
async fn a_long_answer_is_complete() -> Result<()> {
    let server = TestServer::long(|_| ()).await?;
    let (chunks, done) = responses(&server.client, greedy_request("Hello", 1500)).await?;
    assert_eq!(tokens_of(&chunks).len(), 1500);
    assert_eq!(done.finish_reason(), FinishReason::Length);
    Ok(())
}
