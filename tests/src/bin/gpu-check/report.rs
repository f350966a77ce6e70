//! The table.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Result;

/// What a step has found, where all is as it should be: the figures.
#[derive(Debug)]
pub(crate) struct Finding(pub(crate) String);

/// All rows so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    step: String,
    verdict: &'static str,
    words: String,
    took: Duration,
}

impl Report {
    /// Runs a step for at most `limit`, and takes note of what it finds.
    pub(crate) async fn step(
        &mut self,
        step: &str,
        limit: Duration,
        work: impl Future<Output = Result<Finding>>,
    ) {
        eprintln!("gpu-check: {step}");
        let began = Instant::now();
        let found = tokio::time::timeout(limit, work).await;
        let (verdict, words) = match found {
            Ok(Ok(Finding(words))) => ("pass", words),
            Ok(Err(error)) => ("FAIL", format!("{error:#}")),
            Err(_) => ("FAIL", format!("not done within {limit:?}")),
        };
        eprintln!("gpu-check: {step}: {verdict}: {words}");
        self.rows.push(Row {
            step: step.to_owned(),
            verdict,
            words,
            took: began.elapsed(),
        });
    }

    /// Whether a step failed.
    pub(crate) fn failed(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == "FAIL")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| check | | found | took |\n|---|---|---|---|")?;
        for row in &self.rows {
            let words = row.words.replace('|', "\\|").replace('\n', " ");
            let took = row.took.as_secs_f64();
            writeln!(
                f,
                "| {} | {} | {words} | {took:.1} s |",
                row.step, row.verdict
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[hangar_tests::test]
    async fn a_step_that_fails_or_does_not_end_fails_the_check() {
        let second = Duration::from_secs(1);
        let mut report = Report::default();
        let good = async { Ok(Finding("a|b".to_owned())) };
        report.step("one", second, good).await;
        assert!(!report.failed());
        assert!(report.to_string().contains("| one | pass | a\\|b |"));
        let never = std::future::pending::<Result<Finding>>();
        report.step("two", Duration::from_millis(1), never).await;
        assert!(report.failed());
        let mut report = Report::default();
        let bad = async { anyhow::bail!("wrong") };
        report.step("three", second, bad).await;
        assert!(report.failed() && report.to_string().contains("| three | FAIL | wrong |"));
    }
}
