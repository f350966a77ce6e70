//! What Hangar costs on the way of a token: mistral.rs in one process and through Hangar, in turn, with the
//! same model, prompts and number of tokens, greedily. `cargo token-bench` runs it, optionally with a factor
//! for the number of rounds.
//!
//! A round asks both once for the same, the one first that was second before; the answers have to be equal.
//! Each round has a prompt of its own, so that neither side has seen it before.
//!
//! Rounds are made in sittings, for each of which both load the model anew: Hangar first, then mistral.rs
//! first. Two processes that hold the same large model side by side need not be equally fast, since the
//! system gives the second other memory: on the machine of BENCHMARKS.md the first to load is 8 to 15 %
//! slower, whichever it is. So a ratio is the geometric mean, and a difference the arithmetic one, of a round of
//! the one order and a round of the other. What is printed is the median of these, with quartiles.

mod both;
mod slow;
mod statistics;

use std::{fmt::Display, path::PathBuf};

use anyhow::Result;
use both::{LoadedFirst, ServerAndEngine, TrialRun};
use hangar_client::v1::{DataType, ModelSpec};
use hangar_tests::{
    fixtures::Fixtures,
    server::{TestServer, spec},
};
use statistics::Spread;

/// A model, and what is asked of it.
struct Case {
    id: &'static str,
    name: &'static str,
    path: PathBuf,
    /// As both load it.
    dtype: &'static str,
    /// Tokens of the answers whose speed is measured, and how many of them a sitting has.
    tokens: u32,
    rounds: usize,
    /// How often a sitting measures the time to the first token.
    firsts: usize,
}

/// Sittings of each order.
const TRIALS: usize = 2;

impl Case {
    /// What Hangar is asked to load.
    fn spec(&self) -> ModelSpec {
        let dtype = match self.dtype {
            "f32" => DataType::F32,
            _ => DataType::F16,
        };
        ModelSpec {
            dtype: dtype.into(),
            ..spec(&self.path)
        }
    }
}

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
        rounds: 15,
        firsts: 100,
    };
    let big = Case {
        id: "big",
        name: "443 million parameters, f16",
        path: fixtures.big_llama()?,
        dtype: "f16",
        tokens: 64,
        rounds: 5,
        firsts: 20,
    };
    let hangar = TestServer::real().fixtures(&fixtures).start().await?;
    compare(&hangar, &tiny, factor).await?;
    slow::report(&hangar, &tiny.path, factor).await?;
    compare(&hangar, &big, factor).await?;
    hangar.terminate().await?;
    Ok(())
}

async fn compare(hangar: &TestServer, case: &Case, factor: f64) -> Result<()> {
    let times = |rounds: usize| ((rounds as f64 * factor) as usize).max(1);
    let (mut hangar_first, mut alone_first) = (TrialRun::default(), TrialRun::default());
    for _ in 0..TRIALS {
        for (first, trial) in [
            (LoadedFirst::Hangar, &mut hangar_first),
            (LoadedFirst::Alone, &mut alone_first),
        ] {
            let mut both = ServerAndEngine::start(hangar, case, first).await?;
            // Not counted: the first answers of a process take longer.
            both.ask(case.tokens).await?;
            both.speed(times(case.rounds), case.tokens, trial).await?;
            both.first_tokens(times(case.firsts), trial).await?;
            both.end().await?;
        }
    }
    report(case, &hangar_first, &alone_first);
    Ok(())
}

/// Prints what both orders came to.
fn report(case: &Case, one: &TrialRun, other: &TrialRun) {
    let all = |of: fn(&TrialRun) -> &Vec<f64>| Spread::of([of(one).as_slice(), of(other)].concat());
    let ratio = |trial: &TrialRun| -> Vec<f64> {
        let rates = trial.rates.iter().zip(&trial.rates_alone);
        rates.map(|(hangar, alone)| hangar / alone).collect()
    };
    let added = |trial: &TrialRun| -> Vec<f64> {
        let firsts = trial.firsts.iter().zip(&trial.firsts_alone);
        firsts.map(|(hangar, alone)| hangar - alone).collect()
    };
    let paired = |of: &dyn Fn(&TrialRun) -> Vec<f64>, mean: fn(f64, f64) -> f64| -> Spread {
        let pairs = of(one).into_iter().zip(of(other));
        Spread::of(pairs.map(|(one, other)| mean(one, other)).collect())
    };
    println!("\n{}", case.name);
    line(
        "tokens a second, in one process",
        &all(|it| &it.rates_alone),
    );
    line("tokens a second, through Hangar", &all(|it| &it.rates));
    line("ratio", &paired(&ratio, |a, b| (a * b).sqrt()));
    line("  where Hangar loaded first", &Spread::of(ratio(one)));
    line("  where it loaded second", &Spread::of(ratio(other)));
    line(
        "first token, in one process, ms",
        &all(|it| &it.firsts_alone),
    );
    line("first token, through Hangar, ms", &all(|it| &it.firsts));
    line("added, ms", &paired(&added, f64::midpoint));
    line("  where Hangar loaded first", &Spread::of(added(one)));
    line("  where it loaded second", &Spread::of(added(other)));
    report_processor_time(one, other);
}

/// A line of the report.
fn line(what: &str, value: &impl Display) {
    println!("  {what:33}{value}");
}

fn report_processor_time(one: &TrialRun, other: &TrialRun) {
    let tokens = f64::from(one.tokens + other.tokens);
    let busy = |n: usize| (one.busy[n] + other.busy[n]).as_secs_f64() * 1e3 / tokens;
    println!(
        "  processor time of a token, ms    {:9.3}  in one process",
        busy(0)
    );
    println!(
        "                                   {:9.3}  in the worker",
        busy(1)
    );
    println!(
        "                                   {:9.3}  in the server",
        busy(2)
    );
}
