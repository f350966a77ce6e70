//! Asks a server of its own at random: `fuzz-rpc [SECONDS [SEED]]`, by default five minutes of a new seed.

use std::time::Duration;

use anyhow::{Result, ensure};
use hangar_tests::fuzz::{FuzzRound, run};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments
        .next()
        .map_or(Ok(300), |seconds| seconds.parse())?;
    let seed = arguments
        .next()
        .map_or(Ok(fastrand::u64(..)), |seed| seed.parse())?;
    println!("seed {seed}, {seconds} s");
    let time = Duration::from_secs(seconds);
    let report = run(FuzzRound {
        seed,
        calls: u64::MAX,
        time,
    })
    .await?;
    for (end, times) in &report.ends {
        println!("{times:8} {end}");
    }
    ensure!(
        report.faults.is_empty(),
        "seed {seed}:\n{}",
        report.faults.join("\n")
    );
    println!("no worker was harmed");
    Ok(())
}
