//! One model's fault, and the models beside it, with real engines.

use anyhow::{Context, Result};
use hangar_client::v1::{
    ErrorReason,
    ModelState::{Failed, Ready},
};
use hangar_tests::{
    background::Background,
    fixtures::Fixtures,
    processes,
    refusals::refusal,
    server::{DEADLINE, TestServer, spec},
};
use rustix::process::Signal;
use tonic::Code;

use super::{chunk, end};

#[hangar_tests::test]
async fn a_killed_worker_takes_no_token_from_its_neighbour() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.long_llama()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    for id in ["one", "other"] {
        client.load(id).spec(spec(&path)).wait().await?;
    }
    let greedy = |id: &str, tokens| {
        let answer = client.generate(id).prompt("Hello").temperature(0.0);
        answer.max_tokens(tokens)
    };
    let undisturbed = greedy("other", 600).text().await?;
    let mut other = greedy("other", 600).stream().await?;
    let beginning = chunk(&mut other).await?;
    let mut one = greedy("one", 16_000).stream().await?;
    chunk(&mut one).await?;
    let mut transitions = server.follow("one").await?;
    let worker = transitions.current().context("a status")?.worker_pid;
    processes::signal(worker, Signal::KILL)?;
    let died = refusal(
        end(&mut one).await,
        Code::Unavailable,
        ErrorReason::WorkerDied,
    );
    assert!(died.details().retry_after.is_some());
    transitions.until(Failed).await?;
    let rest = Background::start(async move {
        let mut text = beginning;
        while let Some(event) = other.next().await {
            if let hangar_client::GenerateEvent::Chunk(chunk) = event? {
                text.push_str(&chunk.text);
            }
        }
        anyhow::Ok(text)
    });
    assert_eq!(rest.end().await??, undisturbed.text);
    let status = server.follow("other").await?;
    assert_eq!(status.current().map(|status| status.state()), Some(Ready));
    client.load("one").wait().await?;
    assert_eq!(greedy("one", 600).text().await?.text, undisturbed.text);
    Ok(())
}

#[hangar_tests::test]
async fn real_workers_do_not_outlive_a_killed_server() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let path = fixtures.long_llama()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    let client = server.connect().await?;
    let mut workers = Vec::new();
    for id in ["one", "other"] {
        let load = client.load(id).spec(spec(&path)).wait().await?;
        workers.push(load.status.context("a status")?.worker_pid);
    }
    let busy = client.generate("one").prompt("Hello").max_tokens(16_000);
    let mut busy = busy.stream().await?;
    chunk(&mut busy).await?;
    server.kill()?;
    for worker in workers {
        processes::ended(worker, DEADLINE).await?;
    }
    assert!(end(&mut busy).await.is_err());
    Ok(())
}
