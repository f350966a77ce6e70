//! gpu-check: sees in one run whether Hangar works on a machine's GPU, and how fast.
//!
//! It makes its models on the machine itself, with random weights, starts a server of its own on loopback,
//! goes through all that a GPU can be got wrong with, each step bounded in time, and prints a table in
//! Markdown. It needs no network. `deploy/cuda/check` runs it; `--help` says how.
//!
//! With `--device cpu --small` it does the same on the processor with tiny models, and so shows that it works
//! itself. Figures of such a run mean nothing.

mod arguments;
mod bench;
mod models;
mod report;
mod steps;

use std::process::ExitCode;

use anyhow::Result;

use self::{arguments::Plan, bench::Bench, report::Report};

#[tokio::main]
async fn main() -> ExitCode {
    let plan = match Plan::parse(std::env::args().skip(1)) {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            println!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("gpu-check: {error:#}\n\n{}", arguments::HELP);
            return ExitCode::from(2);
        }
    };
    match run(plan).await {
        Ok(report) => {
            println!("{report}");
            if report.failed() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("gpu-check: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(plan: Plan) -> Result<Report> {
    let mut report = Report::default();
    let bench = Bench::start(plan).await?;
    steps::all(&bench, &mut report).await;
    bench.end().await?;
    Ok(report)
}
