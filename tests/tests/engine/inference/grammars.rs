//! Constraints that nobody can follow, and the processes that try.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use hangar_client::{Error, Generate, GenerateEvent, GenerateStream, v1::Constraint};
use hangar_tests::{
    processes::{children, ended, eventually, host_bytes, signal},
    refusals::wrong_fields,
    server::{DEADLINE, TestServer},
};
use rustix::process::Signal;
use tokio::time::timeout;

/// What a grammar may do to the model: nothing.
struct HealthCheck {
    server: TestServer,
    worker: u32,
    answer: String,
}

impl HealthCheck {
    async fn begin(server: TestServer) -> Result<Self> {
        Ok(Self {
            worker: server.worker().await?,
            answer: server.greedy("Hello").max_tokens(20).text().await?.text,
            server,
        })
    }

    async fn ask(&self, change: impl FnOnce(Generate) -> Generate) -> Result<String, Error> {
        let request = change(self.server.greedy("x").max_tokens(5));
        let answer = timeout(DEADLINE, request.text()).await;
        Ok(answer.unwrap_or_else(|_| panic!("no answer in time"))?.text)
    }

    /// As [`Self::ask`], for a grammar that may be followed: on a busy machine it may take longer than it may, and is
    /// tried again.
    async fn follow(&self, change: impl Fn(Generate) -> Generate) -> Result<String, Error> {
        timeout(DEADLINE, async {
            loop {
                match self.ask(&change).await {
                    Err(error) if took_too_long(&error) => {}
                    answer => return answer,
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("it always takes too long"))
    }

    /// An answer of up to 16,000 tokens, which has begun, tried as [`Self::follow`] does.
    async fn begin_long_answer(&self) -> Result<GenerateStream> {
        let begin = async {
            loop {
                let request = self.server.greedy("x").regex("[a-z]{16000}");
                let mut stream = request.max_tokens(16_000).stream().await?;
                match stream.next().await.context("a chunk")? {
                    Err(error) if took_too_long(&error) => {}
                    Err(error) => return Err(error.into()),
                    Ok(_) => return anyhow::Ok(stream),
                }
            }
        };
        timeout(DEADLINE, begin).await?
    }

    async fn end(self) -> Result<()> {
        let answer = self.server.greedy("Hello").max_tokens(20).text().await?;
        assert_eq!(answer.text, self.answer);
        let again = self.follow(|it| it.regex("abc")).await?;
        assert_eq!(again, "abc");
        assert_eq!(self.server.worker().await?, self.worker);
        // One waits for the next grammar.
        eventually("one process", DEADLINE, || {
            let left = children(self.worker).ok()?;
            (left.len() <= 1).then_some(())
        })
        .await
    }
}

/// Whether a grammar was given up because of its time, which is wall time.
fn took_too_long(error: &Error) -> bool {
    error.to_string().contains("takes too long")
}

#[hangar_tests::test]
async fn malformed_grammars_are_refused_with_their_field() -> Result<()> {
    let model = HealthCheck::begin(TestServer::tiny().await?).await?;
    let none = model.ask(|it| it.with(|request| request.constraint = Some(Constraint::default())));
    assert_eq!(wrong_fields(none.await), ["constraint"]);
    for regex in [
        "(a",
        "(a)\\1",
        "a(?=b)",
        "[z-a]",
        "a{5,2}",
        "\\p{Nothing}",
        "*",
    ] {
        let answer = model.ask(|it| it.regex(regex)).await;
        assert_eq!(wrong_fields(answer), ["constraint.regex"], "{regex}");
    }
    for schema in [
        "",
        "{",
        "3",
        "[]",
        "null",
        "\"x\"",
        "{\"type\": \"nothing\"}",
        "{\"$ref\": \"#/$defs/none\"}",
        "{\"$ref\": \"file:///etc/passwd\"}",
        "{\"$ref\": \"http://127.0.0.1:1/schema\"}",
        "{\"type\": \"string\", \"pattern\": \"(\"}",
    ] {
        let answer = model.ask(|it| it.json_schema(schema)).await;
        assert_eq!(wrong_fields(answer), ["constraint.json_schema"], "{schema}");
    }
    for lark in [
        "",
        "x",
        "start: none",
        "start: \"a",
        "start: (",
        "%import x.y\nstart: y",
    ] {
        let answer = model.ask(|it| it.lark(lark)).await;
        assert_eq!(wrong_fields(answer), ["constraint.lark"], "{lark}");
    }
    model.end().await
}

#[hangar_tests::test]
async fn grammars_that_nothing_conforms_to_are_refused() -> Result<()> {
    let model = HealthCheck::begin(TestServer::tiny().await?).await?;
    let answer = model.ask(|it| it.regex("[^\\s\\S]")).await;
    assert_eq!(wrong_fields(answer), ["constraint.regex"]);
    for schema in [
        "{\"type\": \"integer\", \"minimum\": 2, \"maximum\": 1}",
        "{\"type\": \"string\", \"minLength\": 3, \"maxLength\": 2}",
        "{\"allOf\": [{\"type\": \"string\"}, {\"type\": \"integer\"}]}",
        "{\"enum\": []}",
        "{\"const\": 1, \"type\": \"string\"}",
    ] {
        let answer = model.ask(|it| it.json_schema(schema)).await;
        assert_eq!(wrong_fields(answer), ["constraint.json_schema"], "{schema}");
    }
    for lark in ["start: start", "start: A\nA: /a/ & /b/"] {
        let answer = model.ask(|it| it.lark(lark)).await;
        assert_eq!(wrong_fields(answer), ["constraint.lark"], "{lark}");
    }
    model.end().await
}

#[hangar_tests::test]
async fn grammars_that_explode_are_refused_and_harm_nothing() -> Result<()> {
    let model = HealthCheck::begin(TestServer::tiny().await?).await?;
    let long = "x".repeat((128 << 10) + 1);
    let answer = model.ask(|it| it.regex(long)).await;
    assert_eq!(wrong_fields(answer), ["constraint.regex"]);
    // Takes gigabytes.
    let memory = "(ab)?".repeat(20_000);
    let answer = model.ask(|it| it.regex(memory)).await;
    assert_eq!(wrong_fields(answer), ["constraint.regex"]);
    // As deep as it is long: followed or refused.
    for rule in ["r", "T"] {
        let chain = (0..5000).map(|n| format!("{rule}{n}: {rule}{} \"a\"\n", n + 1));
        let deep = format!(
            "start: {rule}0\n{}{rule}5000: \"b\"",
            chain.collect::<String>()
        );
        match model.ask(|it| it.lark(deep)).await {
            Ok(answer) => assert_eq!(answer, "baaaa"),
            refused => assert_eq!(wrong_fields(refused), ["constraint.lark"]),
        }
    }
    let doubled = (0..40).map(|n| format!("T{n}: T{m} T{m}\n", m = n + 1));
    let doubled = format!("start: T0\n{}T40: \"b\"", doubled.collect::<String>());
    let answer = model.ask(|it| it.lark(doubled)).await;
    assert_eq!(wrong_fields(answer), ["constraint.lark"]);
    let fields = (0..2000).map(|n| format!("\"p{n}\": {{\"type\": \"string\"}}"));
    let fields = fields.collect::<Vec<_>>().join(",");
    let schema = format!("{{\"type\": \"object\", \"properties\": {{{fields}}}}}");
    let answer = model.ask(|it| it.json_schema(schema)).await;
    assert_eq!(wrong_fields(answer), ["constraint.json_schema"]);
    model.end().await
}

#[hangar_tests::test]
async fn deeply_nested_grammars_are_followed_or_refused_and_harm_nothing() -> Result<()> {
    const DEPTH: usize = 10_000;
    let model = HealthCheck::begin(TestServer::tiny().await?).await?;
    let nested = |open: &str, inner: &str, close: &str| {
        [open.repeat(DEPTH).as_str(), inner, &close.repeat(DEPTH)].concat()
    };
    let allowed = |answer: Result<String, Error>, field: &str| match answer {
        Ok(answer) => assert_eq!(answer, "a", "{field}"),
        refused => assert_eq!(wrong_fields(refused), [field]),
    };
    let regex = nested("(", "a", ")");
    allowed(model.ask(|it| it.regex(regex)).await, "constraint.regex");
    let regex = nested("(?:", "a", ")+");
    let answer = model.ask(|it| it.regex(regex).max_tokens(1)).await;
    allowed(answer, "constraint.regex");
    let lark = format!("start: {}", nested("(", "\"a\"", ")"));
    allowed(model.ask(|it| it.lark(lark)).await, "constraint.lark");
    for schema in [
        nested(r#"{"not":"#, "{}", "}"),
        nested(r#"{"items":"#, "{}", "}"),
        nested(r#"{"anyOf":["#, "{}", "]}"),
        nested("[", "", "]"),
        format!(r#"{{"const": {}}}"#, nested("[", "1", "]")),
    ] {
        let answer = model.ask(|it| it.json_schema(schema)).await;
        assert_eq!(wrong_fields(answer), ["constraint.json_schema"]);
    }
    model.end().await
}

#[hangar_tests::test]
async fn long_and_simple_grammars_are_followed() -> Result<()> {
    let model = HealthCheck::begin(TestServer::tiny().await?).await?;
    let regex = "a".repeat(100_000);
    assert_eq!(model.follow(|it| it.regex(&regex)).await?, "aaaaa");
    let many = model.follow(|it| it.regex("b{1,1000000}"));
    assert_eq!(many.await?, "bbbbb");
    let words = (0..9000).map(|n| format!("w{n:04}")).collect::<Vec<_>>();
    let word = model.follow(|it| it.regex(words.join("|"))).await?;
    assert!(words.contains(&word), "{word}");
    let schema = serde_json::json!({"enum": words}).to_string();
    let word = model.follow(|it| it.json_schema(&schema)).await?;
    assert!(word.starts_with("\"w"), "{word}");
    model.end().await
}

#[hangar_tests::test]
async fn the_death_of_a_grammars_process_ends_its_answer_only() -> Result<()> {
    let model = HealthCheck::begin(TestServer::long(|_| ()).await?).await?;
    let mut stream = model.begin_long_answer().await?;
    let process = children(model.worker)?;
    assert_eq!(process.len(), 1);
    signal(process[0], Signal::KILL)?;
    let last = loop {
        match stream.next().await.context("an end")? {
            Ok(GenerateEvent::Chunk(_)) => {}
            other => break other,
        }
    };
    assert_eq!(wrong_fields(last), ["constraint.regex"]);
    model.end().await
}

#[hangar_tests::test]
async fn a_process_ends_with_the_caller_that_waits_for_it_and_there_are_few() -> Result<()> {
    const MOST: usize = 2;
    let model = HealthCheck::begin(TestServer::tiny().await?).await?;
    let mut stopped = BTreeSet::new();
    for _ in 0..10 {
        // Takes gigabytes, and time.
        let call = model.ask(|it| it.regex("(ab)?".repeat(20_000)));
        let stop = eventually("a process", DEADLINE, || {
            let all = children(model.worker).ok()?;
            assert!(all.len() <= MOST, "{all:?}");
            let new = all.into_iter().find(|process| stopped.insert(*process))?;
            // It answers nothing any more.
            signal(new, Signal::STOP).ok()
        });
        tokio::select! {
            biased;
            stopped = stop => stopped?,
            // It was refused before it could be stopped.
            _ = call => {}
        }
        model.server.until_occupancy(0, 0).await?;
    }
    eventually("no process that was stopped", DEADLINE, || {
        let left = children(model.worker).ok()?;
        (left.len() <= 1).then_some(())
    })
    .await?;
    for process in children(model.worker)? {
        signal(process, Signal::CONT)?;
    }
    model.end().await
}

#[hangar_tests::test]
async fn what_grammars_hold_counts_as_held_by_their_model() -> Result<()> {
    let model = HealthCheck::begin(TestServer::tiny().await?).await?;
    // Takes tens of megabytes.
    model.follow(|it| it.regex("b{1,1000000}")).await?;
    let process = children(model.worker)?;
    let [process] = process[..] else {
        anyhow::bail!("{process:?} are not one that waits for the next");
    };
    let (own, others) = (host_bytes(model.worker)?, host_bytes(process)?);
    model
        .server
        .info_when(|info| {
            let memory = info.status.as_ref().and_then(|it| it.memory.as_ref());
            let seen = memory.map_or(0, |memory| memory.host_bytes);
            // The worker's own moves a little.
            seen > own + others / 2
        })
        .await?;
    model.end().await
}

#[hangar_tests::test]
async fn grammars_processes_end_with_their_callers_and_with_the_worker() -> Result<()> {
    let model = HealthCheck::begin(TestServer::long(|_| ()).await?).await?;
    for _ in 0..5 {
        drop(model.begin_long_answer().await?);
        model.server.until_occupancy(0, 0).await?;
    }
    eventually("one process", DEADLINE, || {
        let left = children(model.worker).ok()?;
        (left.len() <= 1).then_some(())
    })
    .await?;
    assert_eq!(model.follow(|it| it.regex("abc")).await?, "abc");
    let process = children(model.worker)?;
    assert_eq!(process.len(), 1);
    model.server.client.unload("m").send().await?;
    ended(process[0], DEADLINE).await
}
