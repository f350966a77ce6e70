//! How fast answers come.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hangar_client::v1::ModelSpec;
use hangar_tests::{baseline::Baseline, timed::TimedAnswer};
use tokio::task::JoinSet;

use super::median;
use crate::{
    bench::{Bench, PROMPT},
    models::Model,
    report::Finding,
};

/// Answers after one that does not count.
const ANSWERS: usize = 5;

/// Requests at a time.
const TOGETHER: usize = 4;

/// Bytes of the copy to the device.
const COPY: usize = 1 << 30;

/// Tokens of an answer.
fn length(bench: &Bench) -> u32 {
    if bench.plan.small { 32 } else { 256 }
}

/// One request at a time, through the server and with the engine in one process, one after the other.
pub(super) async fn alone(bench: &Bench, model: &Model) -> Result<Finding> {
    let tokens = length(bench);
    bench.load("m", model.on(&bench.plan.device, None)).await?;
    let mut through = Vec::new();
    for _ in 0..=ANSWERS {
        through.push(bench.answer("m", PROMPT, tokens).await?);
    }
    bench.unload("m").await?;
    if !Baseline::is_there(&bench.plan.device) {
        let server = median(
            through[1..]
                .iter()
                .map(TimedAnswer::decoding_rate)
                .collect(),
        );
        return Ok(Finding(format!(
            "{server:.1} tokens/s through the server; the engine by itself is not there to compare with"
        )));
    }
    // The data type that Hangar chooses for the device.
    let dtype = if bench.plan.is_gpu() { "bf16" } else { "f16" };
    let mut engine = Baseline::start(&model.path, &bench.plan.device, dtype).await?;
    let mut by_itself = Vec::new();
    for _ in 0..=ANSWERS {
        by_itself.push(engine.answer(PROMPT, tokens).await?);
    }
    // On the processor nothing is copied.
    let copied = match bench.plan.is_gpu() {
        true => format!(
            "{:.2} GB/s",
            COPY as f64 / 1e9 / engine.copy(COPY).await?.whole.as_secs_f64()
        ),
        false => "none".to_owned(),
    };
    engine.end().await?;
    let (through, by_itself) = (&through[1..], &by_itself[1..]);
    let server = median(through.iter().map(TimedAnswer::decoding_rate).collect());
    let engine = median(by_itself.iter().map(TimedAnswer::decoding_rate).collect());
    let first =
        |all: &[TimedAnswer]| median(all.iter().map(|it| it.first.as_secs_f64() * 1e3).collect());
    let same = through[0].text == by_itself[0].text;
    Ok(Finding(format!(
        "{server:.1} tokens/s through the server, {engine:.1} in one process, ratio {:.3}; first token {:.2} ms and \
         {:.2} ms; {} text; copy to the device: {copied}",
        server / engine,
        first(through),
        first(by_itself),
        if same { "same" } else { "another" },
    )))
}

/// Several requests at a time, of equal and of unequal length, against one after the other.
pub(super) async fn together(bench: &Bench) -> Result<Finding> {
    let model = bench.models.sized.first().context("no model")?;
    let spec = ModelSpec {
        max_concurrency: TOGETHER as u32,
        context_length: 2048,
        ..model.on(&bench.plan.device, None)
    };
    bench.load("m", spec).await?;
    let tokens = length(bench);
    let mut words = Vec::new();
    for (name, longer) in [("equal", 0), ("unequal", 37)] {
        let prompts = (0..TOGETHER).map(|n| format!("{PROMPT}{}", " wide".repeat(n * longer)));
        let prompts: Vec<String> = prompts.collect();
        let mut alone = Vec::new();
        let began = Instant::now();
        for prompt in &prompts {
            alone.push(bench.answer("m", prompt, tokens).await?);
        }
        let in_turn = began.elapsed();
        let began = Instant::now();
        let mut calls = JoinSet::new();
        for (n, prompt) in prompts.into_iter().enumerate() {
            let client = bench.client.clone();
            calls.spawn(async move { (n, TimedAnswer::ask(&client, "m", &prompt, tokens).await) });
        }
        let mut same = 0;
        while let Some(ended) = calls.join_next().await {
            let (n, answer) = ended?;
            let answer = answer?;
            ensure!(answer.tokens == tokens, "{} tokens came", answer.tokens);
            same += usize::from(alone.get(n).is_some_and(|alone| alone.text == answer.text));
        }
        let all = f64::from(tokens) * TOGETHER as f64;
        let together = all / began.elapsed().as_secs_f64();
        let in_turn = all / in_turn.as_secs_f64();
        words.push(format!(
            "{name} lengths: {together:.1} tokens/s together, {in_turn:.1} in turn, {same} of {TOGETHER} texts as alone"
        ));
    }
    bench.unload("m").await?;
    Ok(Finding(words.join("; ")))
}
