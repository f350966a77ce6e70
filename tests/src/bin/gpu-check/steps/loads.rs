//! How fast weights come onto the device.

use std::{fs::File, io::Read, time::Instant};

use anyhow::Result;

use super::gb;
use crate::{
    bench::{Bench, PROMPT},
    models::{Model, weights},
    report::Finding,
};

/// Bytes that are read at a time.
const PIECE: usize = 8 << 20;

/// A load against plain reading of the same files, both from the page cache.
pub(super) async fn load(bench: &Bench, model: &Model) -> Result<Finding> {
    let path = model.path.clone();
    let reading = tokio::task::spawn_blocking(move || read(&path)).await??;
    let load = bench.load("m", model.on(&bench.plan.device, None)).await?;
    let held = bench.client.info().model("m").send().await?;
    let memory = held
        .models
        .into_iter()
        .next()
        .and_then(|m| m.status?.memory);
    let answer = bench.answer("m", PROMPT, 16).await?;
    anyhow::ensure!(answer.tokens == 16, "{} tokens came", answer.tokens);
    let unload = bench.unload("m").await?;
    let (built, ready) = (load.built.as_secs_f64(), load.ready.as_secs_f64());
    let size = gb(model.bytes);
    Ok(Finding(format!(
        "{size:.2} GB; engine built in {built:.2} s ({:.2} GB/s), READY in {ready:.2} s; plain reading {:.2} GB/s; \
         {:.2} GB on the device and {:.2} GB on the host held, {:.2} GB of the device freed ({:?})",
        size / built,
        size / reading,
        gb(memory.map_or(0, |memory| memory.device_bytes)),
        gb(memory.map_or(0, |memory| memory.host_bytes)),
        gb(unload.device_bytes_freed),
        unload.verification(),
    )))
}

/// Reads all weights and gives the seconds that it took.
fn read(path: &std::path::Path) -> Result<f64> {
    let mut piece = vec![0; PIECE];
    // Once, so that the page cache has them.
    for counted in [false, true] {
        let began = Instant::now();
        for file in weights(path)? {
            let mut file = File::open(file)?;
            while file.read(&mut piece)? > 0 {}
        }
        if counted {
            return Ok(began.elapsed().as_secs_f64());
        }
    }
    Ok(0.0)
}
