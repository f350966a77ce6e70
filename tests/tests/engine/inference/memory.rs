//! However much text comes together, the worker keeps within its memory.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use hangar_client::v1::{
    ChatMessage, DetokenizeRequest, ErrorReason, FinishReason, GenerateRequest, MemoryHint,
    TokenizeRequest,
};
use hangar_tests::{
    fixtures::{Family, Fixtures, Shape},
    refusals::refusal,
    server::{TestServer, spec},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{greedy_request, responses};

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

/// A server with a model `m` of this shape that is let in with next to nothing, so that its worker may take little more than
/// what every worker may.
async fn with_little_memory(fixtures: &Fixtures, name: &str, shape: &Shape) -> Result<TestServer> {
    let path = fixtures.safetensors(name, Family::Llama, shape)?;
    let little = MemoryHint {
        host_bytes: 1 << 20,
        ..MemoryHint::default()
    };
    TestServer::real()
        .fixtures(fixtures)
        .serving(&path, |spec| spec.memory_hint = Some(little))
        .await
}

#[hangar_tests::test]
async fn a_prompt_for_which_there_is_no_memory_at_once_is_computed_piece_by_piece() -> Result<()> {
    // A token takes a MiB while it is computed.
    let shape = Shape {
        intermediate: 65_536,
        layers: 1,
        context: 2048,
        ..Shape::TINY
    };
    let fixtures = Fixtures::new()?;
    let server = with_little_memory(&fixtures, "wide", &shape).await?;
    let worker = server.worker().await?;
    // Ends of messages are no end here.
    let prompt = "abc <|im_end|>".repeat(200);
    for _ in 0..2 {
        let answer = server.greedy(&prompt).max_tokens(8).text().await?.text;
        assert_eq!(server.worker().await?, worker);

        let path = fixtures.safetensors("wide", Family::Llama, &shape)?;
        server.client.load("n").spec(spec(&path)).wait().await?;
        let at_once = server.client.generate("n").prompt(&prompt).temperature(0.0);
        assert_eq!(answer, at_once.max_tokens(8).text().await?.text);
    }
    assert_unharmed(&server, worker).await
}

/// The keys and values of a token take 64 KiB or more.
const DEEP: Shape = Shape {
    heads: 16,
    kv_heads: 16,
    head_dim: 128,
    layers: 8,
    context: 8192,
    ..Shape::TINY
};

/// Has an answer of so many tokens go on to the end of the context of the model `m`, which is told in tokens.
async fn fill_the_context(server: &TestServer, answer: u32) -> Result<u32> {
    let metadata = server.info().await?.metadata.context("metadata")?;
    let context = metadata.context_length;
    let answer = GenerateRequest {
        prompt_token_ids: vec![70; (context - answer) as usize],
        ignore_eos: true,
        ..greedy_request("", 0)
    };
    let (_, done) = responses(&server.client, answer).await?;
    assert_eq!(done.finish_reason(), FinishReason::Length);
    let usage = done.usage.unwrap_or_default();
    assert_eq!(usage.prompt_tokens + usage.completion_tokens, context);
    Ok(context)
}

#[hangar_tests::test]
async fn a_context_for_which_there_is_no_memory_is_cut_to_what_there_is() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let server = with_little_memory(&fixtures, "deep", &DEEP).await?;
    let worker = server.worker().await?;
    let context = fill_the_context(&server, 20).await?;
    assert!((512..8192).contains(&context), "{context}");
    let too_long = server.greedy(&"x".repeat(context as usize)).text().await;
    refusal(
        too_long,
        Code::InvalidArgument,
        ErrorReason::ContextExceeded,
    );
    assert_unharmed(&server, worker).await
}

#[hangar_tests::test]
async fn memory_is_reserved_for_a_context_that_is_asked_for() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.safetensors("deep", Family::Llama, &DEEP)?;
    let server = TestServer::real()
        .fixtures(&fixtures)
        .serving(&path, |spec| spec.context_length = 1100)
        .await?;
    let worker = server.worker().await?;
    // The cache grows with the answer, twice.
    assert_eq!(fill_the_context(&server, 1080).await?, 1100);
    assert_unharmed(&server, worker).await
}
