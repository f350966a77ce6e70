//! How likely the model held its tokens.

use anyhow::Result;
use hangar_client::v1::{
    Constraint, GenerateRequest, Sampling, TokenLogprob, constraint::Constraint as Notation,
};
use hangar_tests::{refusals::wrong_fields, server::TestServer};

use super::{greedy_request, responses, tokens_of};

/// The tokens of an answer and what was reported of each.
async fn logprobs_of(
    server: &TestServer,
    request: GenerateRequest,
) -> Result<(Vec<u32>, Vec<TokenLogprob>)> {
    let (chunks, _) = responses(&server.client, request).await?;
    for chunk in &chunks {
        assert_eq!(chunk.logprobs.len(), chunk.token_ids.len());
    }
    let logprobs = chunks.iter().flat_map(|chunk| chunk.logprobs.clone());
    Ok((tokens_of(&chunks), logprobs.collect()))
}

fn asked(top_logprobs: u32) -> GenerateRequest {
    GenerateRequest {
        logprobs: true,
        top_logprobs,
        ..greedy_request("Hello", 20)
    }
}

#[hangar_tests::test]
async fn every_token_has_logprobs_and_the_most_likely_alternatives() -> Result<()> {
    let server = TestServer::tiny().await?;
    let (tokens, logprobs) = logprobs_of(&server, asked(20)).await?;
    assert_eq!(tokens.len(), 20);
    for (token, reported) in tokens.iter().zip(&logprobs) {
        assert_eq!(reported.token_id, *token);
        assert_eq!(reported.top.len(), 20);
        // The most likely one was chosen.
        assert_eq!(
            (reported.top[0].token_id, reported.top[0].logprob),
            (*token, reported.logprob)
        );
        assert_eq!(reported.top[0].text, reported.text);
        assert!(reported.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        let sum: f32 = reported.top.iter().map(|top| top.logprob.exp()).sum();
        assert!(sum > 0.0 && sum < 1.001, "{sum}");
    }
    let (same, plain) = logprobs_of(&server, asked(0)).await?;
    assert_eq!(same, tokens);
    assert!(plain.iter().all(|reported| reported.top.is_empty()));
    assert_eq!(plain[0].logprob, logprobs[0].logprob);
    let (none, _) = responses(&server.client, greedy_request("Hello", 20)).await?;
    assert!(none.iter().all(|chunk| chunk.logprobs.is_empty()));
    Ok(())
}

#[hangar_tests::test]
async fn logprobs_are_taken_before_temperature_filters_and_constraint() -> Result<()> {
    let server = TestServer::tiny().await?;
    let (_, plain) = logprobs_of(&server, asked(5)).await?;
    let changed = GenerateRequest {
        seed: Some(3),
        sampling: Some(Sampling {
            temperature: Some(2.0),
            top_k: Some(3),
            repetition_penalty: Some(1.9),
            ..Sampling::default()
        }),
        ..asked(5)
    };
    let (_, changed) = logprobs_of(&server, changed).await?;
    assert_eq!(changed[0].top, plain[0].top);
    let constrained = GenerateRequest {
        constraint: Some(Constraint {
            constraint: Some(Notation::Regex("[0-9]{3}".into())),
        }),
        ..asked(5)
    };
    let (_, constrained) = logprobs_of(&server, constrained).await?;
    assert_eq!(constrained[0].top, plain[0].top);
    assert!(constrained[0].logprob <= plain[0].logprob);
    assert!(constrained[0].text.chars().all(|c| c.is_ascii_digit()));
    Ok(())
}

#[hangar_tests::test]
async fn the_demo_model_is_sure_of_what_it_learned() -> Result<()> {
    let server = TestServer::demo().await?;
    let request = GenerateRequest {
        prompt: String::new(),
        messages: vec![super::message("user", "What is 17 + 25?")],
        logprobs: true,
        ..greedy_request("", 40)
    };
    let (_, logprobs) = logprobs_of(&server, request).await?;
    let text: String = logprobs
        .iter()
        .map(|reported| reported.text.as_str())
        .collect();
    assert_eq!(text, "17 + 25 = 42.");
    for reported in &logprobs {
        assert!(reported.logprob > 0.9f32.ln(), "{reported:?}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn top_logprobs_need_logprobs_and_are_at_most_twenty() -> Result<()> {
    let server = TestServer::tiny().await?;
    let top = async |logprobs, top_logprobs| {
        let request = server.greedy("Hello").max_tokens(1);
        let request = request.with(|request| {
            request.logprobs = logprobs;
            request.top_logprobs = top_logprobs;
        });
        request.text().await.map(|_| ())
    };
    top(true, 20).await?;
    assert_eq!(wrong_fields(top(false, 1).await), ["top_logprobs"]);
    assert_eq!(wrong_fields(top(true, 21).await), ["top_logprobs"]);
    assert_eq!(wrong_fields(top(true, u32::MAX).await), ["top_logprobs"]);
    Ok(())
}
