//! The two ways to the same model.

use std::{array, time::Duration};

use anyhow::{Context, Result, ensure};
use hangar_client::Client;
use hangar_tests::{baseline::Baseline, processes, server::TestServer, timed::TimedAnswer};

use super::Case;

/// Tokens of an answer whose first one is measured.
const FEW: u32 = 2;

/// Who loads the model first.
#[derive(Clone, Copy)]
pub(super) enum LoadedFirst {
    Hangar,
    Alone,
}

/// Both, with the model loaded.
pub(super) struct ServerAndEngine {
    client: Client,
    server: u32,
    worker: u32,
    model: &'static str,
    baseline: Baseline,
    asked: usize,
}

/// What the sittings of one order have measured.
#[derive(Debug, Default)]
pub(super) struct TrialRun {
    /// Tokens a second through Hangar and in one process, by round.
    pub(super) rates: Vec<f64>,
    pub(super) rates_alone: Vec<f64>,
    /// Milliseconds to the first token, by round.
    pub(super) firsts: Vec<f64>,
    pub(super) firsts_alone: Vec<f64>,
    /// Tokens of the rounds whose speed was measured.
    pub(super) tokens: u32,
    /// Processor time that these took of mistral.rs alone, of the worker and of the server.
    pub(super) busy: [Duration; 3],
}

impl ServerAndEngine {
    /// Loads the model twice.
    pub(super) async fn start(
        hangar: &TestServer,
        case: &Case,
        first: LoadedFirst,
    ) -> Result<Self> {
        let client = hangar.connect().await?;
        let load = async {
            let loaded = client.load(case.id).spec(case.spec()).wait().await?;
            anyhow::Ok(loaded.status.context("a status")?.worker_pid)
        };
        let alone = Baseline::start(&case.path, "cpu", case.dtype);
        let (worker, baseline) = match first {
            LoadedFirst::Hangar => (load.await?, alone.await?),
            LoadedFirst::Alone => {
                let baseline = alone.await?;
                (load.await?, baseline)
            }
        };
        Ok(Self {
            client,
            server: hangar.pid(),
            worker,
            model: case.id,
            baseline,
            asked: 0,
        })
    }

    /// Measures the speed of answers of so many tokens.
    pub(super) async fn speed(
        &mut self,
        rounds: usize,
        tokens: u32,
        trial: &mut TrialRun,
    ) -> Result<()> {
        let before = self.busy()?;
        for _ in 0..rounds {
            let (hangar, alone) = self.ask(tokens).await?;
            trial.rates.push(hangar.rate());
            trial.rates_alone.push(alone.rate());
            trial.tokens += tokens;
        }
        let after = self.busy()?;
        trial.busy = array::from_fn(|n| trial.busy[n] + after[n].saturating_sub(before[n]));
        Ok(())
    }

    /// Measures the time to the first token.
    pub(super) async fn first_tokens(&mut self, rounds: usize, trial: &mut TrialRun) -> Result<()> {
        for _ in 0..rounds {
            let (hangar, alone) = self.ask(FEW).await?;
            trial.firsts.push(millis(hangar.first));
            trial.firsts_alone.push(millis(alone.first));
        }
        Ok(())
    }

    /// Asks both the same; the answers are those of Hangar and of the engine alone.
    pub(super) async fn ask(&mut self, tokens: u32) -> Result<(TimedAnswer, TimedAnswer)> {
        self.asked += 1;
        let prompt = format!("{:04} once upon", self.asked);
        let (hangar, alone);
        if self.asked.is_multiple_of(2) {
            hangar = TimedAnswer::ask(&self.client, self.model, &prompt, tokens).await?;
            alone = self.baseline.answer(&prompt, tokens).await?;
        } else {
            alone = self.baseline.answer(&prompt, tokens).await?;
            hangar = TimedAnswer::ask(&self.client, self.model, &prompt, tokens).await?;
        }
        for reported in [&hangar, &alone] {
            ensure!(reported.tokens == tokens, "{} tokens", reported.tokens);
        }
        let (ours, theirs) = (&hangar.text, &alone.text);
        ensure!(ours == theirs, "{ours:?} is not {theirs:?}");
        Ok((hangar, alone))
    }

    /// Unloads both.
    pub(super) async fn end(self) -> Result<()> {
        self.baseline.end().await?;
        self.client.unload(self.model).send().await?;
        Ok(())
    }

    /// Processor time so far of mistral.rs alone, the worker and the server.
    fn busy(&self) -> Result<[Duration; 3]> {
        Ok([
            processes::cpu_time(self.baseline.pid()?)?,
            processes::cpu_time(self.worker)?,
            processes::cpu_time(self.server)?,
        ])
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
