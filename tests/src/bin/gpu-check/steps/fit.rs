//! A model that does not fit.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hangar_client::v1::{ErrorReason, KvCache, MemoryHint, ModelState, kv_cache::Size};

use crate::{bench::Bench, report::Finding};

/// More than any machine has.
const TOO_MUCH: u64 = 1 << 50;

/// It is refused before anything is loaded, with the numbers.
pub(super) async fn refused(bench: &Bench) -> Result<Finding> {
    let mut spec = bench.models.exact.on(&bench.plan.device, None);
    if bench.plan.is_gpu() {
        let size = Some(Size::Bytes(TOO_MUCH));
        spec.kv_cache = Some(KvCache { size });
    } else {
        spec.memory_hint = Some(MemoryHint {
            host_bytes: TOO_MUCH,
            device_bytes: 0,
        });
    }
    let began = Instant::now();
    let mut loaded = false;
    let load = bench.client.load("large").spec(spec);
    let result = load
        .wait_with(|status| loaded |= status.state() == ModelState::Loading)
        .await;
    let error = result.err().context("it was loaded")?;
    ensure!(
        error.reason() == Some(ErrorReason::InsufficientMemory),
        "{error}"
    );
    ensure!(!loaded, "it was refused after its load had begun");
    let words = error.to_string();
    ensure!(words.contains("iB"), "there are no numbers in {words:?}");
    let took = began.elapsed().as_millis();
    Ok(Finding(format!("refused in {took} ms: {words}")))
}
