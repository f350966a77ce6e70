//! What an answer is made of.

use anyhow::Result;
use futures::future::try_join_all;
use hangar_client::v1::{ChatMessage, FinishReason, GenerateRequest, GenerationDefaults, Sampling};
use hangar_tests::{fixtures::Fixtures, server::TestServer};

use super::{changed, greedy_request, responses, text_of, tokens_of};

#[hangar_tests::test]
async fn chunks_join_to_the_text_and_one_done_comes_last() -> Result<()> {
    let server = TestServer::tiny().await?;
    let whole = server.greedy("Hello").max_tokens(40).text().await?;
    let (chunks, done) = responses(&server.client, greedy_request("Hello", 40)).await?;
    assert!(chunks.len() > 1, "{chunks:?}");
    assert_eq!(text_of(&chunks), whole.text);
    let tokens = tokens_of(&chunks);
    assert_eq!(tokens.len(), 40);
    assert_eq!(
        server.client.detokenize("m", tokens).send().await?,
        whole.text
    );
    assert_eq!(done.finish_reason(), FinishReason::Length);
    assert_eq!(done.stop, "");
    Ok(())
}

#[hangar_tests::test]
async fn usage_counts_every_token_of_prompt_and_answer() -> Result<()> {
    let server = TestServer::tiny().await?;
    for prompt in ["x", "Hello", "h\u{e9}llo \u{1f600}"] {
        let answer = server.greedy(prompt).max_tokens(9).text().await?;
        let usage = answer.done.usage.unwrap_or_default();
        assert_eq!(usage.prompt_tokens as usize, prompt.len(), "{prompt}");
        assert_eq!(usage.completion_tokens, 9);
        let timings = answer.done.timings.unwrap_or_default();
        assert!(timings.time_to_first_token.is_some() && timings.decoding.is_some());
        assert!(timings.tokens_per_second.is_some_and(|rate| rate > 0.0));
    }
    Ok(())
}

#[hangar_tests::test]
async fn messages_are_put_into_the_chat_template() -> Result<()> {
    let server = TestServer::tiny().await?;
    let message = |role: &str, content: &str| ChatMessage {
        role: role.into(),
        content: content.into(),
        ..ChatMessage::default()
    };
    let request = GenerateRequest {
        prompt: String::new(),
        messages: vec![message("system", "Be brief."), message("user", "Hi <b>")],
        ..greedy_request("", 30)
    };
    let (chunks, done) = responses(&server.client, request).await?;
    let prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b><|im_end|>\n\
        <|im_start|>assistant\n";
    let (same, same_done) = responses(&server.client, greedy_request(prompt, 30)).await?;
    assert_eq!(text_of(&chunks), text_of(&same));
    assert_eq!(done.usage, same_done.usage);
    let tokens = server.client.tokenize("m", prompt).send().await?;
    let usage = done.usage.unwrap_or_default();
    assert_eq!(usage.prompt_tokens as usize, tokens.len());
    Ok(())
}

#[hangar_tests::test]
async fn greedy_answers_do_not_depend_on_what_else_is_asked() -> Result<()> {
    let server = TestServer::tiny_with(|spec| spec.max_concurrency = 8).await?;
    let prompts: Vec<String> = (1..=8).map(|n| "What is this? ".repeat(n)).collect();
    let ask = async |prompt: &str, tokens| {
        let answer = server.greedy(prompt).max_tokens(tokens).text().await?;
        anyhow::Ok(answer.text)
    };
    let mut alone = Vec::new();
    for (tokens, prompt) in (20..).step_by(7).zip(&prompts) {
        alone.push(ask(prompt, tokens).await?);
    }
    for _ in 0..3 {
        let all = (20..).step_by(7).zip(&prompts);
        let together = try_join_all(all.map(|(tokens, prompt)| ask(prompt, tokens))).await?;
        assert_eq!(together, alone);
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_models_own_temperature_is_used_unless_the_request_has_one() -> Result<()> {
    let server = TestServer::tiny().await?;
    let sampled = || async {
        let answer = server.client.generate("m").prompt("Hello").max_tokens(60);
        anyhow::Ok(answer.text().await?.text)
    };
    let greedy = || async {
        let answer = server.greedy("Hello").max_tokens(60).text().await?;
        anyhow::Ok(answer.text)
    };
    assert_ne!(sampled().await?, sampled().await?);
    assert_eq!(greedy().await?, greedy().await?);
    Ok(())
}

#[hangar_tests::test]
async fn a_top_k_of_one_is_greedy_at_any_temperature() -> Result<()> {
    let server = TestServer::tiny().await?;
    let greedy = server.greedy("Hello").max_tokens(50).text().await?;
    let hot = server.client.generate("m").prompt("Hello").max_tokens(50);
    let hot = hot.temperature(2.0).top_k(1).text().await?;
    assert_eq!(hot.text, greedy.text);
    Ok(())
}

#[hangar_tests::test]
async fn the_specs_defaults_apply_and_the_request_goes_before_them() -> Result<()> {
    let plain = TestServer::tiny().await?;
    let text = plain.greedy("Hello").max_tokens(40).text().await?.text;
    let stop = text[20..22].to_owned();
    let before = text.find(&stop).unwrap_or(0);
    let defaults = GenerationDefaults {
        sampling: Some(Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        }),
        max_tokens: 30,
        stop: vec![stop.clone()],
    };
    let server = TestServer::tiny_with(|spec| spec.generation_defaults = Some(defaults)).await?;
    let request = || server.client.generate("m").prompt("Hello");
    let answer = request().text().await?;
    assert_eq!(
        (answer.text.as_str(), &answer.done.stop),
        (&text[..before], &stop)
    );
    let answer = request().stop("never said\u{1}").text().await?;
    assert_eq!(answer.text, text[..30]);
    let answer = request()
        .stop("never said\u{1}")
        .max_tokens(7)
        .text()
        .await?;
    assert_eq!(answer.text, text[..7]);
    let hot = request()
        .stop("never said\u{1}")
        .temperature(2.0)
        .text()
        .await?;
    assert_ne!(hot.text, text[..30]);
    Ok(())
}

#[hangar_tests::test]
async fn the_models_end_token_ends_the_answer_and_is_not_counted() -> Result<()> {
    let plain = TestServer::tiny().await?;
    let text = plain.greedy("Hello").max_tokens(40).text().await?.text;
    let end = text[25..].chars().next().unwrap_or_default();
    let at = text.find(end).unwrap_or(0);
    let token = plain.client.tokenize("m", end).send().await?;
    let fixtures = Fixtures::new()?;
    let path = changed(&fixtures, "generation_config.json", |config| {
        config["eos_token_id"] = token.into();
    })?;
    let server = TestServer::real()
        .fixtures(&fixtures)
        .serving(&path, |_| ())
        .await?;
    let answer = server.greedy("Hello").max_tokens(40).text().await?;
    assert_eq!(answer.text, text[..at]);
    assert_eq!(answer.done.finish_reason(), FinishReason::Stop);
    assert_eq!(answer.done.stop, "");
    assert_eq!(
        answer.done.usage.unwrap_or_default().completion_tokens as usize,
        at
    );
    Ok(())
}
