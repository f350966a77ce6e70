//! A short round of `cargo fuzz-rpc`: random calls of everything that reflection lists, always the same ones.

use std::time::Duration;

use anyhow::Result;
use hangar_tests::fuzz::{FuzzRound, run};

#[hangar_tests::test]
async fn random_calls_harm_no_worker_and_every_error_says_why() -> Result<()> {
    let round = FuzzRound {
        seed: 12,
        calls: 600,
        time: Duration::MAX,
    };
    let report = run(round).await?;
    assert_eq!(report.faults, Vec::<String>::new(), "{round:?}");
    assert!(
        report.ends.values().sum::<u64>() >= round.calls,
        "{report:?}"
    );
    Ok(())
}
