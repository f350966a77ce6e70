//! `hangarctl report`: what a model did in the last day.

mod summary;

use std::{collections::BTreeMap, time::Duration};

use hangar_client::{Client, v1::UsageSample};
use summary::Summary;

use crate::{
    args::ReportArgs,
    output::{Failure, Writer},
    table::{bytes, duration_text, latency, success, table, trimmed},
};

/// Seconds of an hour.
const HOUR: u64 = 3600;

pub(crate) async fn run(client: &Client, args: ReportArgs, writer: &Writer) -> Result<(), Failure> {
    let call = client.info().model(args.model).metrics().include_history();
    let models = call.send().await?.models;
    for model in &models {
        if writer.is_json() {
            writer.message("hangar.v1.ModelInfo", model)?;
        } else if model.history.is_empty() {
            let id = &model.model_id;
            writer.line(&format!(
                "{id} was neither loaded nor used in the last day."
            ))?;
        } else {
            writer.line(&report(&model.history, args.minutes))?;
        }
    }
    Ok(())
}

/// A row for each hour, or for each sample, and one for all of them.
fn report(history: &[UsageSample], minutes: bool) -> String {
    let mut table = table([
        "FROM (UTC)",
        "COVERS",
        "REQUESTS",
        "SUCCESS",
        "GIVEN UP",
        "TOKENS IN",
        "TOKENS OUT",
        "TOKENS/S",
        "FIRST TOKEN",
        "AT WORST",
        "EACH TOKEN",
        "PEAK MEMORY",
    ]);
    let mut all = Summary::default();
    let mut rows: BTreeMap<u64, Summary> = BTreeMap::new();
    for sample in history {
        let start = seconds(sample);
        let row = if minutes { start } else { start / HOUR * HOUR };
        rows.entry(row).or_default().add(sample);
        all.add(sample);
    }
    for (start, summary) in &rows {
        table.add_row(cells(time(*start), summary));
    }
    table.add_row(cells("all".to_owned(), &all));
    trimmed(&table)
}

fn cells(from: String, row: &Summary) -> [String; 12] {
    [
        from,
        duration_text(whole_seconds(row.duration)),
        row.requests.to_string(),
        row.success_rate().map(success).unwrap_or_default(),
        row.cancelled.to_string(),
        row.prompt_tokens.to_string(),
        row.completion_tokens.to_string(),
        format!("{:.1}", row.tokens_per_second()),
        row.first_token.median().map(latency).unwrap_or_default(),
        row.first_token.worst().map(latency).unwrap_or_default(),
        row.per_token.median().map(latency).unwrap_or_default(),
        memory(row),
    ]
}

fn memory(row: &Summary) -> String {
    match (row.host_bytes, row.device_bytes) {
        (0, 0) => String::new(),
        (host, 0) => bytes(host),
        (host, device) => format!("{} + {} device", bytes(host), bytes(device)),
    }
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs((duration + Duration::from_millis(500)).as_secs())
}

fn seconds(sample: &UsageSample) -> u64 {
    let start = sample.start_time.map_or(0, |start| start.seconds);
    u64::try_from(start).unwrap_or(0)
}

/// For example "2026-11-21 13:00:00".
fn time(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.trim_end_matches('Z').replace('T', " ")
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::{LatencyQuantiles, ModelMemory};

    use super::*;

    fn minute(minute: i64, succeeded: u64, first_millis: i32) -> UsageSample {
        let time = |millis: i32| prost_types::Duration {
            seconds: 0,
            nanos: millis * 1_000_000,
        };
        UsageSample {
            start_time: Some(prost_types::Timestamp {
                seconds: 1_800_000_000 + minute * 60,
                nanos: 0,
            }),
            duration: Some(prost_types::Duration {
                seconds: 60,
                nanos: 0,
            }),
            requests: succeeded + 1,
            succeeded,
            failed: 1,
            prompt_tokens: 10,
            completion_tokens: 600,
            time_to_first_token: Some(LatencyQuantiles {
                p50: Some(time(first_millis)),
                p95: Some(time(first_millis * 2)),
                p99: Some(time(first_millis * 3)),
                count: succeeded,
            }),
            memory: Some(ModelMemory {
                host_bytes: u64::from(first_millis.unsigned_abs()) << 20,
                ..ModelMemory::default()
            }),
            ..UsageSample::default()
        }
    }

    fn rows(history: &[UsageSample], minutes: bool) -> Vec<Vec<String>> {
        let text = report(history, minutes);
        let columns = |line: &str| {
            let cells = line.split("  ").map(str::trim);
            cells
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect()
        };
        text.lines().skip(1).map(columns).collect()
    }

    #[bounded::test]
    fn minutes_are_put_together_by_the_hour_and_in_all() {
        let history = [minute(0, 1, 100), minute(1, 5, 40), minute(90, 2, 10)];
        let rows = rows(&history, false);
        let first: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(first, ["2027-01-15 08:00:00", "2027-01-15 09:00:00", "all"]);
        let all = &rows[2];
        assert_eq!(
            all[1..],
            [
                "3m",
                "11",
                "72.7 %",
                "0",
                "30",
                "1800",
                "10.0",
                "40ms",
                "200ms",
                "100.0 MiB"
            ]
        );
        assert_eq!(rows[0][1..4], ["2m", "8", "75 %"]);
    }

    #[bounded::test]
    fn every_minute_is_shown_when_asked_for() {
        let history = [minute(0, 1, 100), minute(1, 5, 40)];
        let rows = rows(&history, true);
        let first: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(first, ["2027-01-15 08:00:00", "2027-01-15 08:01:00", "all"]);
    }
}
