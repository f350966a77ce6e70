//! How much quicker a model of 443 million parameters loads from prepared weights. `cargo prepared` runs it,
//! optionally with the number of rounds and the directory of a model of one's own.
//!
//! A round is four loads with q4k: one that quantizes and keeps nothing; one that quantizes and writes what
//! later loads read; one that reads it; and one that reads it on a new server, which checks every byte
//! first. The model's files are in the page cache in all of them. Ratios are those to the second kind, the
//! one that prepared loads replace; the first shows what the writing costs.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hangar_client::v1::{ModelSpec, ModelState};
use hangar_tests::{
    fixtures::Fixtures,
    info,
    server::{TestServer, spec},
};

/// Rounds where none are asked for.
const ROUNDS: usize = 5;

/// Kinds of loads, in the order of a round.
const KINDS: [&str; 4] = [
    "quantized, not kept",
    "quantized",
    "prepared",
    "prepared, first use",
];

/// Times of a load from its call.
#[derive(Clone, Copy, Debug)]
struct Load {
    built: Duration,
    ready: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    // Cargo adds arguments of its own.
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let rounds = match arguments.next() {
        Some(rounds) => rounds.parse().context("the number of rounds")?,
        None => ROUNDS,
    };
    let fixtures = Fixtures::new()?;
    let path = match arguments.next() {
        Some(path) => PathBuf::from(path).canonicalize()?,
        None => fixtures.big_llama()?,
    };
    let mut loads: [Vec<Load>; 4] = Default::default();
    // The first round warms the page cache up and is not counted.
    for round in 0..=rounds {
        let times = self::round(&fixtures, &path).await?;
        for ((kind, load), all) in KINDS.iter().zip(times).zip(&mut loads) {
            println!(
                "round {round}: {kind:<20} engine built {:6.3} s, READY {:6.3} s",
                load.built.as_secs_f64(),
                load.ready.as_secs_f64()
            );
            if round > 0 {
                all.push(load);
            }
        }
    }
    report(&loads);
    Ok(())
}

async fn round(fixtures: &Fixtures, path: &Path) -> Result<[Load; 4]> {
    let data = tempfile::tempdir()?;
    let options = || {
        let root = path.parent().unwrap_or(path);
        TestServer::real()
            .fixtures(fixtures)
            .root(root)
            .data_in(data.path())
    };
    let spec = ModelSpec {
        quantization: "q4k".to_owned(),
        ..spec(path)
    };
    let hangar = options()
        .argument("--prepared-cache-size=0")
        .start()
        .await?;
    let not_kept = load(&hangar, &spec, false).await?;
    hangar.terminate().await?;
    let hangar = options().start().await?;
    let quantized = load(&hangar, &spec, false).await?;
    let prepared = load(&hangar, &spec, true).await?;
    hangar.terminate().await?;
    let hangar = options().start().await?;
    let first_use = load(&hangar, &spec, true).await?;
    hangar.terminate().await?;
    Ok([not_kept, quantized, prepared, first_use])
}

/// Loads the model, waits until its weights are prepared, and unloads it.
async fn load(hangar: &TestServer, spec: &ModelSpec, prepared: bool) -> Result<Load> {
    let client = hangar.connect().await?;
    let mut transitions = hangar.follow("m").await?;
    let began = Instant::now();
    client.load("m").spec(spec.clone()).send().await?;
    transitions.until(ModelState::Warming).await?;
    let built = began.elapsed();
    transitions.until(ModelState::Ready).await?;
    let ready = began.elapsed();
    let metadata = info::model(&client, "m").await?.metadata;
    anyhow::ensure!(metadata.context("metadata")?.prepared == prepared);
    // A server that keeps nothing reports no cache.
    let is_kept = client.info().send().await?.cache.is_some();
    if is_kept && !prepared {
        info::cache_when(&client, |cache| cache.entries > 0).await?;
    }
    client.unload("m").send().await?;
    Ok(Load { built, ready })
}

fn report(loads: &[Vec<Load>; 4]) {
    let medians = loads.each_ref().map(|loads| Load {
        built: median(loads, |load| load.built),
        ready: median(loads, |load| load.ready),
    });
    let quantized = medians[1];
    println!("\nmedians              engine built      READY    times as fast: built  READY");
    for (kind, load) in KINDS.iter().zip(medians) {
        println!(
            "{kind:<20} {:>10.3} s {:>8.3} s {:>22.1} {:>6.1}",
            load.built.as_secs_f64(),
            load.ready.as_secs_f64(),
            quantized.built.as_secs_f64() / load.built.as_secs_f64(),
            quantized.ready.as_secs_f64() / load.ready.as_secs_f64()
        );
    }
}

fn median(loads: &[Load], time: fn(&Load) -> Duration) -> Duration {
    let mut times: Vec<Duration> = loads.iter().map(time).collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
