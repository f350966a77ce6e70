//! However much text comes together, the worker keeps within its memory.

use anyhow::Result;
use futures::future::try_join_all;
use hangar_client::v1::{ChatMessage, DetokenizeRequest, GenerateRequest, TokenizeRequest};
use hangar_tests::server::TestServer;
use tonic::Status;
use tonic_types::StatusExt;

/// Calls that the worker gets at the same time.
const TOGETHER: usize = 8;

/// Most tokens of a Detokenize call, and most messages of a conversation.
const MAX_TOKENS: usize = 1 << 20;
const MAX_MESSAGES: usize = 16_384;

/// The fields that a stub's call was refused for.
fn wrong<T>(answer: Result<T, Status>) -> Vec<String> {
    let refused = answer
        .err()
        .and_then(|status| status.get_details_bad_request());
    let violations = refused.map(|refused| refused.field_violations);
    let violations = violations.unwrap_or_default().into_iter();
    violations.map(|violation| violation.field).collect()
}

async fn assert_unharmed(server: &TestServer, worker: u32) -> Result<()> {
    assert_eq!(server.worker().await?, worker);
    let metrics = server.info().await?.metrics.unwrap_or_default();
    assert_eq!(metrics.restarts, 0);
    server.greedy("Hello").max_tokens(1).text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn long_texts_at_the_same_time_end_no_worker() -> Result<()> {
    let server = TestServer::tiny().await?;
    let worker = server.worker().await?;
    let text = "a b".repeat((1 << 20) / 3);
    let calls = (0..TOGETHER).map(|_| server.client.tokenize("m", text.as_str()).send());
    for tokens in try_join_all(calls).await? {
        assert_eq!(tokens.len(), text.len(), "one token for each byte");
    }
    assert_unharmed(&server, worker).await
}

#[hangar_tests::test]
async fn many_tokens_at_the_same_time_end_no_worker() -> Result<()> {
    let server = TestServer::tiny().await?;
    let worker = server.worker().await?;
    let token = server.client.tokenize("m", "a").send().await?;
    let tokens = token.repeat(MAX_TOKENS);
    let calls = (0..TOGETHER).map(|_| server.client.detokenize("m", tokens.clone()).send());
    for text in try_join_all(calls).await? {
        assert_eq!(text, "a".repeat(MAX_TOKENS));
    }
    let mut inference = server.client.inference_service();
    let more = DetokenizeRequest {
        model_id: "m".into(),
        token_ids: token.repeat(15 << 20),
        ..DetokenizeRequest::default()
    };
    assert_eq!(wrong(inference.detokenize(more).await), ["token_ids"]);
    assert_unharmed(&server, worker).await
}

#[hangar_tests::test]
async fn a_conversation_of_millions_of_messages_is_refused() -> Result<()> {
    let server = TestServer::tiny().await?;
    let worker = server.worker().await?;
    let mut inference = server.client.inference_service();
    let message = ChatMessage {
        role: "user".into(),
        ..ChatMessage::default()
    };
    for messages in [MAX_MESSAGES + 1, 2_000_000] {
        let messages = vec![message.clone(); messages];
        let tokenize = TokenizeRequest {
            model_id: "m".into(),
            messages: messages.clone(),
            ..TokenizeRequest::default()
        };
        assert_eq!(wrong(inference.tokenize(tokenize).await), ["messages"]);
        let generate = GenerateRequest {
            model_id: "m".into(),
            messages,
            ..GenerateRequest::default()
        };
        assert_eq!(wrong(inference.generate(generate).await), ["messages"]);
    }
    assert_unharmed(&server, worker).await
}
