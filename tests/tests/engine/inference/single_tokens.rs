//! Prompts that are tokens, and what requests say of single tokens: the shortest answer, ends, biases, likelihoods.

use anyhow::{Context, Result};
use hangar_client::{
    Generate, GenerateEvent,
    v1::{FinishReason, GenerateChunk, GenerateDone, TokenLogprob},
};
use hangar_tests::{
    fixtures::{Fixtures, SuccessorModel},
    refusals::wrong_fields,
    server::TestServer,
};

/// What the model says: each character is followed by the next, whatever came before.
const SAID: [&str; 4] = ["A", "B", "C", "<|im_end|>"];
const EOS: u32 = 4;
const VOCABULARY: u32 = 261;

async fn served() -> Result<TestServer> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.root().join("clock");
    SuccessorModel::new(&SAID)?.write(&path)?;
    let server = TestServer::real().fixtures(&fixtures);
    server.serving(&path, |_| ()).await
}

/// Everything of an answer.
async fn all(request: Generate) -> Result<(Vec<GenerateChunk>, GenerateDone)> {
    let mut stream = request.stream().await?;
    let mut chunks = Vec::new();
    while let Some(event) = stream.next().await {
        match event? {
            GenerateEvent::Chunk(chunk) => chunks.push(chunk),
            GenerateEvent::Done(done) => return Ok((chunks, done)),
        }
    }
    anyhow::bail!("no end")
}

async fn token(server: &TestServer, text: &str) -> Result<u32> {
    let tokens = server.client.tokenize("m", text).send().await?;
    tokens.first().copied().context("no token")
}

#[hangar_tests::test]
async fn a_prompt_of_tokens_is_answered_as_its_text() -> Result<()> {
    let server = TestServer::tiny().await?;
    let tokens = server
        .client
        .tokenize("m", "Hello")
        .add_special_tokens()
        .send()
        .await?;
    let asked = server
        .client
        .generate("m")
        .prompt_token_ids(tokens.clone())
        .temperature(0.0)
        .max_tokens(20);
    let asked = asked.text().await?;
    let same = server.greedy("Hello").max_tokens(20).text().await?;
    assert_eq!((asked.text, asked.done.usage), (same.text, same.done.usage));
    let unknown = server
        .client
        .generate("m")
        .prompt_token_ids([70, VOCABULARY]);
    assert_eq!(wrong_fields(unknown.text().await), ["prompt_token_ids"]);
    let both = server.greedy("Hello").prompt_token_ids(tokens);
    assert_eq!(wrong_fields(both.text().await), ["prompt"]);
    Ok(())
}

#[hangar_tests::test]
async fn an_answer_has_as_many_tokens_as_were_asked_for_at_least() -> Result<()> {
    let server = served().await?;
    let plain = server.greedy("x").text().await?;
    assert_eq!(plain.text, "ABC");
    let least = |tokens: u32| {
        server
            .greedy("x")
            .with(move |request| request.min_tokens = tokens)
    };
    let longer = least(5).max_tokens(9).text().await?;
    let usage = longer.done.usage.context("usage")?;
    assert!(
        usage.completion_tokens >= 5 && longer.text.starts_with("ABC"),
        "{longer:?}"
    );
    let with_stop = least(3).stop("B").text().await?;
    assert_eq!(
        (with_stop.text.as_str(), with_stop.done.stop.as_str()),
        ("ABC", "")
    );
    assert_eq!(
        wrong_fields(least(5).max_tokens(4).text().await),
        ["min_tokens"]
    );
    assert_eq!(
        wrong_fields(least(5).regex("a").text().await),
        ["min_tokens"]
    );
    Ok(())
}

#[hangar_tests::test]
async fn end_tokens_are_left_out_or_added() -> Result<()> {
    let server = served().await?;
    let endless = server
        .greedy("x")
        .max_tokens(12)
        .with(|request| request.ignore_eos = true);
    let endless = endless.text().await?;
    assert_eq!(endless.done.finish_reason(), FinishReason::Length);
    assert_eq!(endless.done.usage.context("usage")?.completion_tokens, 12);
    let b = token(&server, "B").await?;
    for ignore_eos in [false, true] {
        let ended = server.greedy("x").with(|request| {
            request.stop_token_ids = vec![b];
            request.ignore_eos = ignore_eos;
        });
        let (chunks, done) = all(ended).await?;
        assert_eq!(done.finish_reason(), FinishReason::Stop);
        let text: String = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
        assert_eq!(text, "A");
        assert!(chunks.iter().all(|chunk| !chunk.token_ids.contains(&b)));
    }
    let unknown = server
        .greedy("x")
        .with(|request| request.stop_token_ids = vec![b, VOCABULARY]);
    assert_eq!(wrong_fields(unknown.text().await), ["stop_token_ids[1]"]);
    Ok(())
}

#[hangar_tests::test]
async fn scores_are_changed_and_likelihoods_are_not() -> Result<()> {
    let server = served().await?;
    let z = token(&server, "Z").await?;
    let likely = |bias: f32| {
        let asked = server.greedy("x").max_tokens(1).logprobs(0);
        asked.with(|request| request.logit_bias = [(z, bias)].into())
    };
    let (chunks, _) = all(likely(100.0)).await?;
    assert_eq!(chunks[0].text, "Z");
    let biased = chunks[0].logprobs[0].logprob;
    let of_z = server.greedy("x").max_tokens(1).logprobs(20);
    let (chunks, _) = all(of_z).await?;
    assert_eq!(chunks[0].text, "A");
    let most = chunks[0].logprobs[0].logprob;
    assert!(biased < most && biased < -1.0, "{biased} {most}");
    let a = token(&server, "A").await?;
    let without = server.greedy("x").max_tokens(1).with(|request| {
        request.logit_bias = [(a, -100.0)].into();
    });
    assert_ne!(without.text().await?.text, "A");
    for (id, bias) in [(VOCABULARY, 1.0), (z, 101.0), (z, f32::NAN)] {
        let wrong = server
            .greedy("x")
            .with(|request| request.logit_bias = [(id, bias)].into());
        assert_eq!(wrong_fields(wrong.text().await), ["logit_bias"]);
    }
    Ok(())
}

#[hangar_tests::test]
async fn several_answers_are_those_of_their_seeds() -> Result<()> {
    let server = TestServer::tiny().await?;
    let asked = |seed| {
        server
            .client
            .generate("m")
            .prompt("Hello")
            .temperature(1.0)
            .seed(seed)
            .max_tokens(15)
    };
    let (chunks, done) = all(asked(7).with(|request| request.n = 3)).await?;
    assert_eq!(done.answers.len(), 3);
    let mut texts = vec![String::new(); 3];
    let mut indices = Vec::new();
    for chunk in &chunks {
        texts[chunk.index as usize].push_str(&chunk.text);
        indices.push(chunk.index);
    }
    assert!(indices.is_sorted(), "one after the other: {indices:?}");
    for (n, text) in (0..).zip(&texts) {
        let alone = asked(7 + n).text().await?;
        assert_eq!(*text, alone.text);
        let end = &done.answers[usize::try_from(n)?];
        assert_eq!(end.finish_reason, alone.done.finish_reason);
        assert_eq!(end.usage, alone.done.usage);
    }
    let usage = done.usage.context("usage")?;
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (5, 45));
    let first = asked(7).with(|request| request.n = 3).text().await?;
    assert_eq!(first.text, texts[0]);
    let many = asked(7).with(|request| request.n = 9);
    assert_eq!(wrong_fields(many.text().await), ["n"]);
    Ok(())
}

/// The tokens of a prompt, and an answer to it with likelihoods.
async fn answered(server: &TestServer, prompt: &str) -> Result<(Vec<u32>, Vec<TokenLogprob>)> {
    let request = server.greedy(prompt).max_tokens(12).logprobs(2);
    let (chunks, _) = all(request).await?;
    let answer = chunks.into_iter().flat_map(|chunk| chunk.logprobs);
    let tokens = server.client.tokenize("m", prompt).add_special_tokens();
    Ok((tokens.send().await?, answer.collect()))
}

/// A short answer to these tokens, always the same.
fn greedy_to(server: &TestServer, tokens: &[u32]) -> Generate {
    let request = server
        .client
        .generate("m")
        .prompt_token_ids(tokens.to_vec());
    request.temperature(0.0).max_tokens(3)
}

#[hangar_tests::test]
async fn the_prompts_tokens_are_as_likely_as_they_were_as_an_answer() -> Result<()> {
    let server = TestServer::tiny().await?;
    let (mut tokens, answer) = answered(&server, "Hello").await?;
    let before = tokens.len();
    tokens.extend(answer.iter().map(|token| token.token_id));
    let again = greedy_to(&server, &tokens)
        .with(|request| (request.prompt_logprobs, request.top_logprobs) = (true, 2));
    let (chunks, _) = all(again).await?;
    let of_prompt: Vec<TokenLogprob> = chunks
        .iter()
        .flat_map(|chunk| chunk.prompt_logprobs.clone())
        .collect();
    let ids: Vec<u32> = of_prompt.iter().map(|token| token.token_id).collect();
    assert_eq!(ids, tokens[1..]);
    for (prompt, answer) in of_prompt[before - 1..].iter().zip(&answer) {
        assert!(
            (prompt.logprob - answer.logprob).abs() < 1e-3,
            "{prompt:?} {answer:?}"
        );
        assert_eq!(prompt.top.len(), 2);
    }
    let first = chunks.iter().position(|chunk| !chunk.token_ids.is_empty());
    let last = chunks
        .iter()
        .rposition(|chunk| !chunk.prompt_logprobs.is_empty());
    assert!(last <= first, "the prompt comes first");
    Ok(())
}

#[hangar_tests::test]
async fn likelihoods_of_a_prompt_change_neither_its_answer_nor_its_usage() -> Result<()> {
    let server = TestServer::tiny().await?;
    let (mut tokens, answer) = answered(&server, "Hello").await?;
    tokens.extend(answer.iter().map(|token| token.token_id));
    let likely = greedy_to(&server, &tokens)
        .with(|request| (request.prompt_logprobs, request.top_logprobs) = (true, 2));
    let (chunks, done) = all(likely).await?;
    let usage = done.usage.context("usage")?;
    assert_eq!(
        (usage.prompt_tokens as usize, usage.completion_tokens),
        (tokens.len(), 3)
    );
    let text: String = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
    let plain = greedy_to(&server, &tokens).text().await?;
    assert_eq!(plain.text, text);
    Ok(())
}

#[hangar_tests::test]
async fn the_end_of_a_message_is_a_token_of_its_own() -> Result<()> {
    let server = TestServer::tiny().await?;
    assert_eq!(EOS, token(&server, "<|im_end|>").await?);
    Ok(())
}

/// As where a conversation of several turns is scored.
#[hangar_tests::test]
async fn ends_of_messages_within_a_prompt_that_is_scored_end_nothing() -> Result<()> {
    let server = TestServer::tiny().await?;
    let (hello, _) = answered(&server, "Hello").await?;
    let tokens = [&hello[..], &[EOS], &hello, &[EOS, EOS], &hello].concat();
    let scored = greedy_to(&server, &tokens).with(|request| request.prompt_logprobs = true);
    let (chunks, done) = all(scored).await?;
    let of_prompt = chunks.iter().flat_map(|chunk| &chunk.prompt_logprobs);
    let ids: Vec<u32> = of_prompt.map(|token| token.token_id).collect();
    assert_eq!(ids, tokens[1..]);
    assert_eq!(done.usage.context("usage")?.completion_tokens, 3);
    let text: String = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
    assert_eq!(greedy_to(&server, &tokens).text().await?.text, text);
    Ok(())
}
