//! Answers that a seed repeats.

use anyhow::Result;
use futures::future::try_join_all;
use hangar_tests::server::TestServer;

async fn seeded(server: &TestServer, seed: u64) -> Result<String> {
    let request = server.client.generate("m").prompt("Hello").max_tokens(40);
    Ok(request.temperature(1.0).seed(seed).text().await?.text)
}

#[hangar_tests::test]
async fn the_same_seed_gives_the_same_answer_and_another_seed_another() -> Result<()> {
    let server = TestServer::tiny().await?;
    let mut answers = Vec::new();
    for seed in [0, 1, 2, u64::MAX] {
        let answer = seeded(&server, seed).await?;
        assert_eq!(seeded(&server, seed).await?, answer, "{seed}");
        assert!(!answers.contains(&answer), "{seed}");
        answers.push(answer);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_seeded_answer_does_not_depend_on_what_else_is_asked() -> Result<()> {
    let server = TestServer::tiny_with(|spec| spec.max_concurrency = 8).await?;
    let mut alone = Vec::new();
    for seed in 0..8 {
        alone.push(seeded(&server, seed).await?);
    }
    for _ in 0..3 {
        let noise = async { server.client.generate("m").prompt("x").text().await };
        let together = try_join_all((0..8).rev().map(|seed| seeded(&server, seed)));
        let (mut together, noise) = tokio::join!(together, noise);
        noise?;
        if let Ok(together) = &mut together {
            together.reverse();
        }
        assert_eq!(together?, alone);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_seed_gives_the_same_answer_after_a_reload() -> Result<()> {
    let (first, second) = (TestServer::tiny().await?, TestServer::tiny().await?);
    assert_eq!(seeded(&first, 7).await?, seeded(&second, 7).await?);
    Ok(())
}
