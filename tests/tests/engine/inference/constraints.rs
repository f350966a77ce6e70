//! Answers that conform to what was asked for.

use anyhow::{Context, Result};
use hangar_client::{Completion, Generate, v1::FinishReason};
use hangar_tests::server::TestServer;
use serde_json::{Value, json};

/// Answers to the same question with other seeds, at a temperature at which anything may come.
async fn answers(ask: impl Fn() -> Generate) -> Result<Vec<Completion>> {
    let mut answers = Vec::new();
    for seed in 0..12 {
        answers.push(ask().temperature(1.5).seed(seed).text().await?);
    }
    Ok(answers)
}

fn is_whole(answer: &Completion) -> bool {
    answer.done.finish_reason() == FinishReason::Stop
}

#[hangar_tests::test]
async fn the_whole_answer_matches_a_regex() -> Result<()> {
    let server = TestServer::tiny().await?;
    let ask = || server.client.generate("m").prompt("Hello");
    let mut seen = Vec::new();
    for answer in answers(|| ask().regex("(yes|no|maybe), [a-c]{2,4}[0-9]!")).await? {
        assert!(is_whole(&answer), "{answer:?}");
        let (word, rest) = answer.text.split_once(", ").context("a comma")?;
        assert!(["yes", "no", "maybe"].contains(&word), "{answer:?}");
        let rest = rest.strip_suffix('!').context("an end")?;
        let (letters, digit) = rest.split_at(rest.len() - 1);
        assert!((2..=4).contains(&letters.len()) && digit.parse::<u8>().is_ok());
        assert!(
            letters.bytes().all(|b| (b'a'..=b'c').contains(&b)),
            "{rest}"
        );
        let usage = answer.done.usage.unwrap_or_default();
        assert_eq!(usage.completion_tokens as usize, answer.text.len());
        seen.push(answer.text);
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 6, "all the same: {seen:?}");
    Ok(())
}

#[hangar_tests::test]
async fn an_answer_conforms_to_a_json_schema() -> Result<()> {
    let server = TestServer::tiny().await?;
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "kind": {"enum": ["cat", "dog"]},
            "legs": {"type": "integer", "minimum": 0, "maximum": 99},
            "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
        },
        "required": ["name", "kind", "legs"],
        "additionalProperties": false,
    });
    let ask = || server.client.generate("m").prompt("x");
    for answer in answers(|| ask().json_schema(schema.to_string())).await? {
        assert!(is_whole(&answer), "{answer:?}");
        let json: Value = serde_json::from_str(&answer.text)?;
        assert!(json["name"].as_str().context("a name")?.chars().count() <= 5);
        assert!(["cat", "dog"].contains(&json["kind"].as_str().context("a kind")?));
        assert!(json["legs"].as_u64().context("legs")? <= 99);
        let tags = json.get("tags").and_then(Value::as_array);
        let count = tags.map_or(0, Vec::len);
        assert!(tags.is_none_or(|tags| tags.iter().all(Value::is_boolean)) && count <= 3);
        let fields = json.as_object().context("an object")?.len();
        assert_eq!(fields, 3 + usize::from(tags.is_some()), "{json}");
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_answer_conforms_to_a_lark_grammar() -> Result<()> {
    let server = TestServer::tiny().await?;
    let grammar = "start: sum\nsum: term (\"+\" term){1,4}\nterm: /[1-9]/ | \"(\" /[1-9]/ \"-\" /[1-9]/ \")\"";
    let ask = || server.client.generate("m").prompt("1+1");
    for answer in answers(|| ask().lark(grammar)).await? {
        assert!(is_whole(&answer), "{answer:?}");
        let terms: Vec<&str> = answer.text.split('+').collect();
        assert!((2..=5).contains(&terms.len()), "{answer:?}");
        for term in terms {
            let inner = term.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
            match inner {
                Some(inner) => assert!(inner.len() == 3 && inner.contains('-'), "{term}"),
                None => assert!(term.len() == 1 && term != "0", "{term}"),
            }
        }
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_answer_that_is_cut_off_is_the_beginning_of_one_that_conforms() -> Result<()> {
    let server = TestServer::tiny().await?;
    let ask = || server.greedy("Hello").regex("abcdefghij");
    for tokens in 1..10 {
        let answer = ask().max_tokens(tokens).text().await?;
        assert_eq!(answer.text, "abcdefghij"[..tokens as usize]);
        assert_eq!(answer.done.finish_reason(), FinishReason::Length);
    }
    let whole = ask().max_tokens(11).text().await?;
    assert_eq!(
        (whole.text.as_str(), is_whole(&whole)),
        ("abcdefghij", true)
    );
    let stopped = ask().stop("ef").text().await?;
    assert_eq!(
        (stopped.text.as_str(), stopped.done.stop.as_str()),
        ("abcd", "ef")
    );
    Ok(())
}

#[hangar_tests::test]
async fn characters_of_several_tokens_conform_too() -> Result<()> {
    let server = TestServer::tiny().await?;
    let ask = || server.client.generate("m").prompt("Hello");
    for answer in answers(|| ask().regex("[\u{e4}\u{20ac}\u{1f600}]{3}x")).await? {
        assert_eq!(answer.text.chars().count(), 4, "{answer:?}");
        let known = |c| ['\u{e4}', '\u{20ac}', '\u{1f600}', 'x'].contains(&c);
        assert!(answer.text.chars().all(known), "{answer:?}");
    }
    for (tokens, text) in [
        (1, ""),
        (3, "\u{20ac}"),
        (5, "\u{20ac}"),
        (6, "\u{20ac}\u{20ac}"),
    ] {
        let cut = ask().regex("\u{20ac}{3}").max_tokens(tokens).text().await?;
        assert_eq!(cut.text, text, "half of a character is shown");
    }
    Ok(())
}

#[hangar_tests::test]
async fn the_demo_model_answers_within_a_constraint() -> Result<()> {
    let server = TestServer::demo().await?;
    let ask = |question: &str| {
        let request = server.client.generate("m").message("user", question);
        request.temperature(0.0).max_tokens(60)
    };
    let sum = ask("What is 17 + 25?").regex("[0-9]+ \\+ [0-9]+ = [0-9]{2}\\.");
    let answer = sum.text().await?;
    assert_eq!(
        (answer.text.as_str(), is_whole(&answer)),
        ("17 + 25 = 42.", true)
    );
    let who = ask("Who are you?").lark("start: \"I am \" /[A-Za-z ,]+/ \".\"");
    assert_eq!(
        who.text().await?.text,
        "I am the Hangar demo model, a small Llama with about a million parameters."
    );
    let name = json!({
        "type": "object",
        "properties": {"sum": {"type": "integer", "minimum": 10, "maximum": 99}},
        "required": ["sum"],
        "additionalProperties": false,
    });
    let name = ask("What is 17 + 25?").json_schema(name.to_string());
    let name: Value = serde_json::from_str(&name.text().await?.text)?;
    assert!(
        name["sum"]
            .as_u64()
            .is_some_and(|sum| (10..=99).contains(&sum))
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_constraint_that_allows_nothing_gives_an_empty_answer() -> Result<()> {
    let server = TestServer::tiny().await?;
    let answer = server.greedy("Hello").regex("").text().await?;
    assert_eq!((answer.text.as_str(), is_whole(&answer)), ("", true));
    assert_eq!(answer.done.usage.unwrap_or_default().completion_tokens, 0);
    Ok(())
}
