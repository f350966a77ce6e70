//! What Hangar costs on the way of a token: mistral.rs in one process and through Hangar, in turn, with the
//! same model, prompts and number of tokens, greedily. `cargo token-bench` runs it, optionally with a factor
//! for the number of rounds.
//!
//! A round asks both once for the same, the one first that was second before; its ratio or difference is of
//! these two answers, which have to be equal. What is told is the median of all rounds with the quartiles.
//! Each round has a prompt of its own, so that neither side has seen it before.

mod in_process;
mod slow;
mod statistics;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hangar_client::{
    Client, GenerateEvent,
    v1::{DataType, ModelSpec},
};
use hangar_tests::{
    fixtures::Fixtures,
    hangar::{Hangar, Options, spec},
    processes,
};

use in_process::InProcess;
use statistics::Spread;

/// A model, and what is asked of it.
struct Case {
    id: &'static str,
    name: &'static str,
    path: PathBuf,
    /// As both load it.
    dtype: &'static str,
    /// Tokens of the answers whose speed is measured, and how often.
    tokens: u32,
    rounds: usize,
    /// How often the time to the first token is measured.
    firsts: usize,
}

/// An answer and what it took.
#[derive(Debug, Default)]
struct Told {
    text: String,
    tokens: u32,
    first: Duration,
    whole: Duration,
}

/// The two ways to the same model.
struct Both {
    hangar: Client,
    server: u32,
    worker: u32,
    model: &'static str,
    in_process: InProcess,
    asked: usize,
}

/// Tokens of an answer whose first one is measured.
const FEW: u32 = 2;

#[tokio::main]
async fn main() -> Result<()> {
    // Cargo adds arguments of its own.
    let factor = std::env::args().skip(1).find(|it| it != "--bench");
    let factor: f64 = factor.map_or(Ok(1.0), |it| it.parse())?;
    let fixtures = Fixtures::new()?;
    let tiny = Case {
        id: "tiny",
        name: "tiny (126,000 parameters, f32)",
        path: fixtures.long_llama()?,
        dtype: "f32",
        tokens: 1000,
        rounds: 20,
        firsts: 200,
    };
    let big = Case {
        id: "big",
        name: "443 million parameters, f16",
        path: fixtures.big_llama()?,
        dtype: "f16",
        tokens: 64,
        rounds: 12,
        firsts: 60,
    };
    let hangar = Hangar::start(Options::new(&fixtures)).await?;
    compare(&hangar, &tiny, factor).await?;
    slow::report(&hangar, &tiny.path, factor).await?;
    compare(&hangar, &big, factor).await?;
    hangar.terminate().await?;
    Ok(())
}

async fn compare(hangar: &Hangar, case: &Case, factor: f64) -> Result<()> {
    let times = |rounds: usize| ((rounds as f64 * factor) as usize).max(1);
    let client = hangar.client().await?;
    let spec = ModelSpec {
        dtype: match case.dtype {
            "f32" => DataType::F32.into(),
            _ => DataType::F16.into(),
        },
        ..spec(&case.path)
    };
    let loaded = client.load(case.id).spec(spec).wait().await?;
    let mut both = Both {
        in_process: InProcess::start(&case.path, case.dtype).await?,
        hangar: client.clone(),
        server: hangar.pid(),
        worker: loaded.status.context("a status")?.worker_pid,
        model: case.id,
        asked: 0,
    };
    println!("\n{}", case.name);
    // Not counted: the first answers of a process take longer.
    both.ask(case.tokens).await?;
    both.speed(times(case.rounds), case.tokens).await?;
    both.first_tokens(times(case.firsts)).await?;
    both.in_process.end().await?;
    client.unload(case.id).send().await?;
    Ok(())
}

/// Asks a model through Hangar.
async fn ask(client: &Client, model: &str, prompt: &str, tokens: u32) -> Result<Told> {
    let began = Instant::now();
    let request = client.generate(model).prompt(prompt).temperature(0.0);
    let mut stream = request.max_tokens(tokens).stream().await?;
    let mut told = Told::default();
    while let Some(event) = stream.next().await {
        match event? {
            GenerateEvent::Chunk(chunk) => {
                if told.tokens == 0 {
                    told.first = began.elapsed();
                }
                told.tokens += u32::try_from(chunk.token_ids.len())?;
                told.text.push_str(&chunk.text);
            }
            GenerateEvent::Done(_) => {
                told.whole = began.elapsed();
                return Ok(told);
            }
        }
    }
    anyhow::bail!("an answer without an end")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

// === impl Both ===

impl Both {
    async fn speed(&mut self, rounds: usize, tokens: u32) -> Result<()> {
        let before = self.busy()?;
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (hangar, alone) = self.ask(tokens).await?;
            ours.push(hangar.rate());
            theirs.push(alone.rate());
            ratios.push(hangar.rate() / alone.rate());
        }
        println!("  tokens a second, in one process  {}", Spread::of(theirs));
        println!("  tokens a second, through Hangar  {}", Spread::of(ours));
        println!("  ratio of a round                 {}", Spread::of(ratios));
        let after = self.busy()?;
        let made = rounds as f64 * f64::from(tokens);
        let [alone, worker, server] =
            std::array::from_fn(|n| millis(after[n].saturating_sub(before[n])) / made);
        println!("  processor time of a token, ms    {alone:9.3}  in one process");
        println!("                                   {worker:9.3}  in the worker");
        println!("                                   {server:9.3}  in the server");
        Ok(())
    }

    async fn first_tokens(&mut self, rounds: usize) -> Result<()> {
        let (mut ours, mut theirs, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (hangar, alone) = self.ask(FEW).await?;
            ours.push(millis(hangar.first));
            theirs.push(millis(alone.first));
            added.push(millis(hangar.first) - millis(alone.first));
        }
        println!("  first token, in one process, ms  {}", Spread::of(theirs));
        println!("  first token, through Hangar, ms  {}", Spread::of(ours));
        println!("  added in a round, ms             {}", Spread::of(added));
        Ok(())
    }

    /// Processor time so far of mistral.rs alone, the worker and the server.
    fn busy(&self) -> Result<[Duration; 3]> {
        Ok([
            processes::cpu_time(self.in_process.pid()?)?,
            processes::cpu_time(self.worker)?,
            processes::cpu_time(self.server)?,
        ])
    }

    /// Asks both the same; the answers are those of Hangar and of the engine alone.
    async fn ask(&mut self, tokens: u32) -> Result<(Told, Told)> {
        self.asked += 1;
        let prompt = format!("{:04} once upon", self.asked);
        let (hangar, alone);
        if self.asked.is_multiple_of(2) {
            hangar = ask(&self.hangar, self.model, &prompt, tokens).await?;
            alone = self.in_process.ask(&prompt, tokens).await?;
        } else {
            alone = self.in_process.ask(&prompt, tokens).await?;
            hangar = ask(&self.hangar, self.model, &prompt, tokens).await?;
        }
        for told in [&hangar, &alone] {
            anyhow::ensure!(told.tokens == tokens, "{} tokens", told.tokens);
        }
        anyhow::ensure!(
            hangar.text == alone.text,
            "{:?} is not {:?}",
            hangar.text,
            alone.text
        );
        Ok((hangar, alone))
    }
}

// === impl Told ===

impl Told {
    /// Tokens a second, the prompt's time included.
    fn rate(&self) -> f64 {
        f64::from(self.tokens) / self.whole.as_secs_f64()
    }
}
