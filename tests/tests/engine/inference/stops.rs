//! Texts that end an answer.

use anyhow::Result;
use hangar_client::{Completion, v1::FinishReason};
use hangar_tests::{refusals::wrong_fields, server::TestServer};

use super::{greedy_request, responses, text_of};

const TOKENS: u32 = 80;

async fn answer_text(server: &TestServer) -> Result<String> {
    Ok(server.greedy("Hello").max_tokens(TOKENS).text().await?.text)
}

async fn stopped(server: &TestServer, stops: &[&str]) -> Result<Completion> {
    let request = server.greedy("Hello").max_tokens(TOKENS);
    let request = stops
        .iter()
        .fold(request, |request, stop| request.stop(*stop));
    Ok(request.text().await?)
}

#[hangar_tests::test]
async fn an_answer_ends_before_its_stop_text() -> Result<()> {
    let server = TestServer::tiny().await?;
    let text = answer_text(&server).await?;
    for (start, length) in [(0, 1), (3, 2), (10, 5), (30, 20), (60, 20), (79, 1)] {
        let stop = &text[start..start + length];
        let at = text.find(stop).unwrap_or(start);
        let answer = stopped(&server, &[stop]).await?;
        assert_eq!(answer.text, text[..at], "{stop:?}");
        assert_eq!(answer.done.finish_reason(), FinishReason::Stop);
        assert_eq!(answer.done.stop, stop);
        let tokens = answer.done.usage.unwrap_or_default().completion_tokens;
        assert_eq!(tokens as usize, at + length, "{stop:?}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn no_part_of_a_stop_text_is_ever_sent() -> Result<()> {
    let server = TestServer::tiny().await?;
    let text = answer_text(&server).await?;
    let stop = &text[40..52];
    let mut request = greedy_request("Hello", TOKENS);
    request.stop = vec![stop.to_owned()];
    let (chunks, _) = responses(&server.client, request).await?;
    let mut sent = String::new();
    for chunk in &chunks {
        sent.push_str(&chunk.text);
        assert!(text[..40].starts_with(&sent), "{sent:?}");
    }
    assert_eq!(text_of(&chunks), text[..40]);
    Ok(())
}

#[hangar_tests::test]
async fn of_several_stop_texts_the_first_that_is_complete_counts() -> Result<()> {
    let server = TestServer::tiny().await?;
    let text = answer_text(&server).await?;
    let (long, short, late) = (&text[20..40], &text[25..28], &text[50..55]);
    let at = text.find(short).unwrap_or(25);
    let answer = stopped(&server, &[late, long, short]).await?;
    assert_eq!(
        (answer.text.as_str(), answer.done.stop.as_str()),
        (&text[..at], short)
    );
    Ok(())
}

#[hangar_tests::test]
async fn what_only_looked_like_a_stop_text_is_not_lost() -> Result<()> {
    let server = TestServer::tiny().await?;
    let text = answer_text(&server).await?;
    let inside = format!("{}\u{1}", &text[10..20]);
    let at_the_end = format!("{}\u{1}", &text[70..]);
    let answer = stopped(&server, &[&inside, &at_the_end]).await?;
    assert_eq!(answer.text, text);
    assert_eq!(answer.done.finish_reason(), FinishReason::Length);
    assert_eq!(answer.done.stop, "");
    Ok(())
}

#[hangar_tests::test]
async fn stop_texts_are_limited_in_number_and_length() -> Result<()> {
    let server = TestServer::tiny().await?;
    let text = answer_text(&server).await?;
    let most = vec!["\u{65e5}".repeat(85); 16];
    let most: Vec<_> = most.iter().map(String::as_str).collect();
    assert_eq!(stopped(&server, &most).await?.text, text);
    let with = async |stops: Vec<String>| {
        let request = server.greedy("Hello").max_tokens(1);
        request.with(|request| request.stop = stops).text().await
    };
    assert_eq!(wrong_fields(with(vec!["x".into(); 17]).await), ["stop"]);
    let wrong = vec!["ok".into(), String::new(), "x".repeat(257)];
    assert_eq!(wrong_fields(with(wrong).await), ["stop[1]", "stop[2]"]);
    Ok(())
}
