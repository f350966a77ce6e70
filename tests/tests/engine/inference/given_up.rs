//! Calls with long texts that are given up while the worker works at them.

use std::{
    cell::Cell,
    future::ready,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use hangar_client::v1::{
    DetokenizeRequest, EmbedRequest, GenerateRequest, ModelSpec, TokenizeRequest,
};
use hangar_tests::{
    fixtures::Embedding,
    processes,
    server::{DEADLINE, TestServer},
};
use tokio::time::{interval, timeout};
use tonic::Request;

use super::message;

/// Calls that are given up, in all and at the same time.
const CALLS: u32 = 400;
const AT_ONCE: usize = 8;

/// Plain requests that are answered meanwhile.
const PLAIN: u32 = 10;

/// How long a caller waits at least: too short for what it asks.
const PATIENCE: Duration = Duration::from_millis(150);

/// Processor time of a worker that is at a text: more than it takes by itself meanwhile.
const AT_WORK: Duration = Duration::from_millis(30);

/// Longest text of a request in bytes, and of one that only asks for its tokens.
const TEXT: usize = 8 << 20;
const TOKENIZED: usize = 1 << 20;

/// Threads that calls may add to a worker: far more than there are places for their work.
const THREADS: u64 = 40;

/// Gives up call after call, and has `plain` answered meanwhile: time and again, until enough of both were made.
async fn flood(
    server: &TestServer,
    give_up: impl AsyncFn(u32, Duration),
    plain: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    let worker = server.worker().await?;
    plain().await?;
    let patience = patience_for(worker, give_up(0, DEADLINE)).await?;
    let threads = processes::threads(worker)?;
    let given_up = Cell::new(0);
    let (give_up, count) = (&give_up, &given_up);
    let calls = stream::iter(0..)
        .map(async |number| {
            give_up(number, patience).await;
            count.set(count.get() + 1);
        })
        .buffer_unordered(AT_ONCE)
        .for_each(|()| ready(()));
    let meanwhile = async {
        let mut answered = 0;
        while answered < PLAIN || given_up.get() < CALLS {
            timeout(DEADLINE, plain()).await.context("no answer")??;
            answered += 1;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        () = calls => anyhow::bail!("the calls ended"),
        done = meanwhile => done?,
    }
    let more = processes::threads(worker)?.saturating_sub(threads);
    assert!(
        more <= THREADS,
        "{more} threads for calls that were given up"
    );
    assert_eq!(server.worker().await?, worker);
    let metrics = server.info().await?.metrics.context("metrics")?;
    assert_eq!(metrics.restarts, 0);
    Ok(())
}

/// How long callers wait: twice as long as `call` takes, alone, until the worker is at it.
async fn patience_for(worker: u32, call: impl Future<Output = ()>) -> Result<Duration> {
    let began = Instant::now();
    let idle = processes::cpu_time(worker)?;
    let mut ticks = interval(Duration::from_millis(10));
    let at_work = async {
        while processes::cpu_time(worker)? < idle + AT_WORK {
            ticks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        // A short one was at its end before that was seen.
        () = call => {}
        seen = at_work => seen?,
    }
    Ok(PATIENCE.max(began.elapsed() * 2))
}

/// Waits for a call as long as its caller does: every other one says so in its deadline, and the others just go.
async fn until_given_up<T, A>(
    number: u32,
    patience: Duration,
    message: T,
    call: impl AsyncFnOnce(Request<T>) -> Result<A, tonic::Status>,
) {
    let mut request = Request::new(message);
    if number.is_multiple_of(2) {
        request.set_timeout(patience);
        let _ = call(request).await;
    } else {
        let _ = timeout(patience, call(request)).await;
    }
}

/// Has a text split into its tokens for as long as the caller waits.
async fn split(server: &TestServer, text: &str, number: u32, patience: Duration) {
    let request = TokenizeRequest {
        model_id: "m".into(),
        text: text.to_owned(),
        ..TokenizeRequest::default()
    };
    let mut stub = server.client.inference_service();
    until_given_up(number, patience, request, async |it| {
        stub.tokenize(it).await
    })
    .await;
}

fn patient(spec: &mut ModelSpec) {
    spec.max_queue = Some(1000);
}

async fn plain(server: &TestServer) -> Result<()> {
    server.greedy("Hello").max_tokens(1).text().await?;
    Ok(())
}

#[hangar_tests::test]
async fn long_prompts_that_are_given_up_keep_nobody_waiting_and_end_no_worker() -> Result<()> {
    let server = TestServer::tiny_with(patient).await?;
    let text = "a b ".repeat(TEXT / 4);
    let give_up = async |number: u32, patience: Duration| {
        let mut request = GenerateRequest {
            model_id: "m".into(),
            max_tokens: 1,
            ..GenerateRequest::default()
        };
        if number % 4 < 2 {
            request.prompt.clone_from(&text);
        } else {
            request.messages = vec![message("user", &text)];
        }
        let mut stub = server.client.inference_service();
        until_given_up(number, patience, request, async |it| {
            stub.generate(it).await
        })
        .await;
    };
    flood(&server, give_up, async || plain(&server).await).await
}

#[hangar_tests::test]
async fn texts_to_be_split_that_are_given_up_keep_nobody_waiting_and_end_no_worker() -> Result<()> {
    let server = TestServer::tiny_with(patient).await?;
    let text = "a b ".repeat(TOKENIZED / 4);
    let token = server.client.tokenize("m", "a").send().await?;
    let tokens = token.repeat(1 << 20);
    let give_up = async |number: u32, patience: Duration| {
        if number % 4 < 3 {
            split(&server, &text, number, patience).await;
        } else {
            let request = DetokenizeRequest {
                model_id: "m".into(),
                token_ids: tokens.clone(),
                ..DetokenizeRequest::default()
            };
            let mut stub = server.client.inference_service();
            until_given_up(number, patience, request, async |it| {
                stub.detokenize(it).await
            })
            .await;
        }
    };
    let both = async || {
        plain(&server).await?;
        server.client.tokenize("m", "Hello").send().await?;
        Ok(())
    };
    flood(&server, give_up, both).await
}

#[hangar_tests::test]
async fn texts_to_be_embedded_that_are_given_up_keep_nobody_waiting_and_end_no_worker() -> Result<()>
{
    let server = TestServer::embedding_with(Embedding::Qwen3, patient).await?;
    let text = "a b ".repeat(TEXT / 4);
    let give_up = async |number: u32, patience: Duration| {
        let request = EmbedRequest {
            model_id: "m".into(),
            inputs: vec![text.clone()],
            ..EmbedRequest::default()
        };
        let mut stub = server.client.inference_service();
        until_given_up(number, patience, request, async |it| stub.embed(it).await).await;
    };
    let plain = async || {
        server.client.embed("m").inputs(["Hello"]).send().await?;
        Ok(())
    };
    flood(&server, give_up, plain).await
}

#[hangar_tests::test]
async fn calls_that_were_given_up_hold_up_no_unload() -> Result<()> {
    let server = TestServer::tiny().await?;
    let worker = server.worker().await?;
    let text = "a b ".repeat(TOKENIZED / 4);
    let give_up = async |number: u32, patience: Duration| {
        split(&server, &text, number, patience).await;
    };
    let patience = patience_for(worker, give_up(0, DEADLINE)).await?;
    let give_up = &give_up;
    let calls = stream::iter(0..CALLS / 2).map(async |number| give_up(number, patience).await);
    calls.buffer_unordered(AT_ONCE).for_each(ready).await;
    assert_eq!(server.worker().await?, worker);
    let unload = server.client.unload("m").send().await?;
    assert!(unload.was_loaded && !unload.killed, "{unload:?}");
    assert!(!processes::exists(worker));
    Ok(())
}
