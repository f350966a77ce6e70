//! The steps, in their order.

mod fit;
mod loads;
mod neighbours;
mod speed;
mod texts;
mod unloads;

use std::time::Duration;

use anyhow::Result;

use crate::{
    bench::Bench,
    report::{Finding, Report},
};

/// How long a step may take.
const SHORT: Duration = Duration::from_secs(120);
const LONG: Duration = Duration::from_secs(300);

/// How long one load and unload may take.
const ROUND: Duration = Duration::from_secs(20);

/// Goes through all steps. Each begins with nothing loaded, whatever the one before has left.
pub(crate) async fn all(bench: &Bench, report: &mut Report) {
    let begin = async |work: std::pin::Pin<Box<dyn Future<Output = Result<Finding>> + '_>>| {
        bench.clear().await?;
        work.await
    };
    let step = begin(Box::pin(device(bench)));
    report.step("device", SHORT, step).await;
    let step = begin(Box::pin(async { Ok(written(bench)) }));
    report.step("models written", SHORT, step).await;
    let step = begin(Box::pin(texts::model(bench)));
    report.step("greedy text as on the CPU", SHORT, step).await;
    let step = begin(Box::pin(texts::demo(bench)));
    report.step("demo model as on the CPU", SHORT, step).await;
    let step = begin(Box::pin(texts::embedding(bench)));
    report.step("embedding", SHORT, step).await;
    for model in &bench.models.sized {
        let step = begin(Box::pin(loads::load(bench, model)));
        report
            .step(&format!("load, {}", model.name), LONG, step)
            .await;
        let step = begin(Box::pin(speed::alone(bench, model)));
        let name = format!("through the server and in one process, {}", model.name);
        report.step(&name, LONG, step).await;
    }
    let step = begin(Box::pin(speed::together(bench)));
    report.step("four requests at a time", LONG, step).await;
    let step = begin(Box::pin(neighbours::two_models(bench)));
    report.step("two models on one device", LONG, step).await;
    let step = begin(Box::pin(neighbours::kill(bench)));
    report.step("killed while generating", LONG, step).await;
    let step = begin(Box::pin(fit::refused(bench)));
    report.step("a model that does not fit", SHORT, step).await;
    let step = begin(Box::pin(unloads::rounds(bench)));
    let name = format!("loaded and unloaded {} times", bench.plan.rounds);
    report
        .step(&name, SHORT + ROUND * bench.plan.rounds, step)
        .await;
}

async fn device(bench: &Bench) -> Result<Finding> {
    Ok(Finding(match bench.device().await? {
        Some(device) => format!(
            "{}, {:.1} GiB, {:.1} GiB free; driver {}, CUDA {}",
            device.name,
            gib(device.memory_total_bytes),
            gib(device.memory_free_bytes),
            device.driver_version,
            device.cuda_version
        ),
        None => "the processor: figures mean nothing".to_owned(),
    }))
}

fn written(bench: &Bench) -> Finding {
    let bytes: u64 = bench.models.sized.iter().map(|model| model.bytes).sum();
    let seconds = bench.writing.as_secs_f64();
    Finding(format!("{:.2} GB in {seconds:.1} s", gb(bytes)))
}

/// Bytes in GB.
fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// Bytes in GiB.
fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1_u32 << 30)
}

/// The middle one of some figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
