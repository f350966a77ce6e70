//! Whether a device gets its memory back, time and again.

use anyhow::{Context, Result, ensure};
use hangar_client::v1::UnloadVerification;
use hangar_tests::processes;

use super::{gb, median};
use crate::{
    bench::{Bench, PROMPT, TOLERANCE},
    report::Finding,
};

/// Loads, asks and unloads, and looks at the device's memory each time.
pub(super) async fn rounds(bench: &Bench) -> Result<Finding> {
    let model = bench.models.sized.first().context("no model")?;
    let before = bench.free_at_rest().await?;
    let mut worst = 0;
    let mut loads = Vec::new();
    let mut unloads = Vec::new();
    for round in 1..=bench.plan.rounds {
        let load = bench.load("m", model.on(&bench.plan.device, None)).await?;
        bench.answer("m", PROMPT, 4).await?;
        let pid = bench.worker("m").await?;
        let began = std::time::Instant::now();
        let unload = bench.unload("m").await?;
        unloads.push(began.elapsed().as_secs_f64());
        loads.push(load.ready.as_secs_f64());
        ensure!(
            !processes::exists(pid),
            "round {round}: worker {pid} is still there"
        );
        let verification = unload.verification();
        let right = match before {
            Some(_) => verification == UnloadVerification::DeviceObserved,
            None => verification == UnloadVerification::Reaped,
        };
        ensure!(
            right,
            "round {round}: the unload was verified as {verification:?}"
        );
        if let Some(before) = before {
            let missing = missing(bench, before).await?;
            worst = worst.max(missing);
            ensure!(
                missing <= TOLERANCE,
                "round {round}: {:.3} GB are missing on the device",
                gb(missing)
            );
        }
    }
    let seen = match before {
        Some(_) => format!("at most {} MiB missing", worst >> 20),
        None => "every worker reaped".to_owned(),
    };
    Ok(Finding(format!(
        "{}, {seen} each time; READY in {:.2} s, unloaded in {:.2} s (medians)",
        model.name,
        median(loads),
        median(unloads)
    )))
}

/// How much the device has less than `before`, in bytes, once what is to come back has come.
async fn missing(bench: &Bench, before: u64) -> Result<u64> {
    let wanted = before.saturating_sub(TOLERANCE);
    let after = bench.free(wanted).await?.unwrap_or_default();
    Ok(before.saturating_sub(after))
}
