//! Clients that keep generating through the alias while it moves.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::{Context, Result};
use hangar_client::{
    Error,
    v1::{ModelState, SwitchOutcome, SwitchStrategy},
};
use hangar_tests::{
    background::Background,
    server::{TestServer, answer},
    stubs::switch,
};

use super::{ALIAS, carried_out, one_and_two, target};

const CLIENTS: usize = 4;

/// What one client was answered.
#[derive(Debug, Default)]
struct AnswerCounts {
    all: Vec<String>,
    failed: Vec<Error>,
}

/// Clients that ask through the alias, each the next time as soon as it was answered.
struct Traffic {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<Background<Result<AnswerCounts>>>,
}

impl Traffic {
    fn begin(server: &TestServer) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let clients = (0..CLIENTS).map(|_| {
            let (url, stop, asked) = (server.url(), stop.clone(), asked.clone());
            Background::start(async move {
                let client = hangar_client::Client::connect(url).await?;
                let mut answers = AnswerCounts::default();
                while !stop.load(Ordering::Relaxed) {
                    match answer(&client, ALIAS).await {
                        Ok(text) => answers.all.push(text),
                        Err(error) => answers.failed.push(error),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(answers)
            })
        });
        Self {
            clients: clients.collect(),
            stop,
            asked,
        }
    }

    /// Waits until each client was, on average, answered so many times more.
    async fn go_on(&self, times: usize) {
        let until = self.asked.load(Ordering::Relaxed) + times * CLIENTS;
        while self.asked.load(Ordering::Relaxed) < until {
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) -> Result<Vec<AnswerCounts>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.push(client.end().await??);
        }
        Ok(all)
    }
}

#[hangar_tests::test]
async fn no_request_fails_while_the_alias_moves() -> Result<()> {
    let server = TestServer::real().start().await?;
    let mut watch = one_and_two(&server).await?;
    let one = server.answer("one").await?;
    server.client.load("two").wait().await?;
    let two = server.answer("two").await?;
    assert_ne!(one, two);
    server.client.unload("two").send().await?;

    let traffic = Traffic::begin(&server);
    let mut old = "one";
    for (new, expected) in [("two", &two), ("one", &one), ("two", &two)] {
        traffic.go_on(2).await;
        let request = switch(ALIAS, new, SwitchStrategy::LoadFirst);
        let ended = carried_out(&server, &mut watch, request).await?;
        assert_eq!(ended.outcome(), SwitchOutcome::Succeeded, "{ended:?}");
        assert_eq!(
            (ended.from_model_id.as_str(), ended.to_model_id.as_str()),
            (old, new)
        );
        assert_eq!(
            server.answer(ALIAS).await?,
            *expected,
            "asked after the end"
        );
        assert_eq!(target(&server).await?, new);
        watch.until(old, ModelState::Unloaded).await?;
        old = new;
    }
    traffic.go_on(2).await;
    let clients = traffic.end().await?;
    let mut counts = [0, 0];
    for answers in &clients {
        assert!(answers.failed.is_empty(), "{:?}", answers.failed);
        for text in &answers.all {
            let which = [&one, &two].iter().position(|known| *known == text);
            counts[which.with_context(|| format!("whose answer is {text:?}?"))?] += 1;
        }
    }
    eprintln!("{counts:?} answers");
    assert!(counts.iter().all(|count| *count >= CLIENTS), "{counts:?}");
    assert!(!server.stubs.is_desired("one").await?);
    assert!(server.stubs.is_desired("two").await?);
    Ok(())
}
