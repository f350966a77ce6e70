//! What a server reports of one model.

use std::time::Duration;

use anyhow::{Context, Result};
use hangar_client::{
    Client,
    v1::{CacheInfo, ModelInfo},
};
use tokio::time::{interval, timeout};

use crate::server::DEADLINE;

/// Everything that is known about a model.
///
/// # Errors
///
/// When there is no such model.
pub async fn model(client: &Client, model_id: &str) -> Result<ModelInfo> {
    let info = client.info().model(model_id).metrics().send().await?;
    info.models.into_iter().next().context("no model")
}

/// Waits until something is known about a model that no transition shows.
///
/// # Errors
///
/// When it is not so within [`DEADLINE`].
pub async fn when(
    client: &Client,
    model_id: &str,
    is_so: impl Fn(&ModelInfo) -> bool,
) -> Result<ModelInfo> {
    let mut ticks = interval(Duration::from_millis(20));
    let check = async {
        loop {
            ticks.tick().await;
            let info = model(client, model_id).await?;
            if is_so(&info) {
                return Ok(info);
            }
        }
    };
    timeout(DEADLINE, check).await?
}

/// The cache of prepared weights.
///
/// # Errors
///
/// When the server keeps none.
pub async fn cache(client: &Client) -> Result<CacheInfo> {
    client.info().send().await?.cache.context("the cache")
}

/// Waits until the cache is such as no event shows.
///
/// # Errors
///
/// As [`cache`]; also when it is not so within [`DEADLINE`].
pub async fn cache_when(client: &Client, is_so: impl Fn(&CacheInfo) -> bool) -> Result<CacheInfo> {
    let mut ticks = interval(Duration::from_millis(20));
    let check = async {
        loop {
            ticks.tick().await;
            let cache = cache(client).await?;
            if is_so(&cache) {
                return anyhow::Ok(cache);
            }
        }
    };
    let checked = timeout(DEADLINE, check).await;
    checked.context("the cache is not so")?
}

/// Process of a model's worker; 0 when it has none.
///
/// # Errors
///
/// When there is no such model.
pub async fn worker(client: &Client, model_id: &str) -> Result<u32> {
    let status = model(client, model_id).await?.status;
    Ok(status.context("a status")?.worker_pid)
}

/// Asks until so many of a model's requests run and so many wait. Arrivals and departures of callers are reported
/// by nothing else.
///
/// # Errors
///
/// When it is not so within [`DEADLINE`].
pub async fn until_occupancy(
    client: &Client,
    model_id: &str,
    in_flight: u32,
    queued: u32,
) -> Result<()> {
    let ask = async {
        loop {
            let metrics = model(client, model_id).await?.metrics.context("metrics")?;
            if (metrics.in_flight, metrics.queued) == (in_flight, queued) {
                return anyhow::Ok(());
            }
        }
    };
    let asked = timeout(DEADLINE, ask).await;
    asked.with_context(|| format!("never {in_flight} requests ran and {queued} waited"))?
}
