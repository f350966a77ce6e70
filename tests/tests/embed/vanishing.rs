//! Callers that go away.

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hangar_tests::{fixtures::Embedding, hangar::DEADLINE};
use tokio::time::timeout;

use crate::{Served, Vectors, many};

/// Callers that are there at the same time.
const AT_ONCE: usize = 50;

#[tokio::test]
async fn a_caller_that_goes_away_frees_the_engine_after_the_text_at_hand() -> Result<()> {
    let served = Served::embedding(Embedding::Gemma).await?;
    let worker = served.worker().await?;
    let before = served.vector("Hello").await?;
    let client = served.hangar.client().await?;
    {
        let mut long = pin!(client.embed("m").inputs(many()).send());
        tokio::select! {
            ended = &mut long => anyhow::bail!("it ended: {ended:?}"),
            runs = served.until_crowd(1, 0) => runs?,
        }
    }
    served.until_crowd(0, 0).await?;
    let after = served.vector("Hello");
    assert_eq!(timeout(DEADLINE, after).await??, before);
    assert_eq!(served.worker().await?, worker);
    let metrics = served.model().await?.metrics.context("metrics")?;
    assert_eq!((metrics.requests_total, metrics.requests_succeeded), (3, 2));
    assert_eq!(
        (metrics.requests_cancelled, metrics.requests_failed),
        (1, 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_thousand_callers_that_vanish_leave_nothing_behind() -> Result<()> {
    for kind in Embedding::ALL {
        let served = Served::embedding_with(kind, |spec| spec.max_queue = Some(1000)).await?;
        let worker = served.worker().await?;
        let before = served.vector("Hello").await?;
        let texts: Vec<_> = many().into_iter().take(8).collect();
        stream::iter(0..500_u64)
            .map(async |number| {
                let client = served.hangar.client().await?;
                let mut call = pin!(client.embed("m").inputs(texts.clone()).send());
                // Gone while the request is on its way, waits or runs.
                let patience = Duration::from_micros(number % 50 * 200);
                let _ = timeout(patience, &mut call).await;
                anyhow::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        served.until_crowd(0, 0).await?;
        assert_eq!(served.vector("Hello").await?, before);
        assert_eq!(served.worker().await?, worker);
        let metrics = served.model().await?.metrics.context("metrics")?;
        assert_eq!(metrics.requests_failed, 0);
        let ended = metrics.requests_succeeded + metrics.requests_cancelled;
        assert_eq!(metrics.requests_total, ended);
        assert!(metrics.requests_cancelled > 0, "{metrics:?}");
    }
    Ok(())
}
