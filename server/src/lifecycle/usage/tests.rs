//! Tests of what is counted, with the clock in hand.

use std::sync::Arc;

use super::*;
use crate::model::Operation;

/// A model that became known just now, and that moment.
fn usage() -> (Arc<Usage>, Instant) {
    let epoch = Instant::now();
    let model = ModelId::parse("m").expect("a well-formed id");
    let usage = Usage::since(epoch, model, ModelMetrics::default());
    (Arc::new(usage), epoch)
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn succeeded(prompt_tokens: u32) -> UsageEvent {
    UsageEvent::Succeeded {
        prompt_tokens,
        per_token: Some(Duration::from_millis(20)),
    }
}

const HELD: ModelMemory = ModelMemory {
    host_bytes: 1 << 30,
    device_bytes: 0,
};

#[bounded::test]
fn every_request_is_counted_once() {
    let (usage, _) = usage();
    usage.begin(Operation::Chat).succeed(3, 5);
    usage.begin(Operation::Chat).fail("WORKER_DIED");
    drop(usage.begin(Operation::Chat));
    usage.begin(Operation::Chat).turn_away();
    let totals = usage.totals();
    let ended = (totals.succeeded, totals.failed, totals.cancelled);
    assert_eq!((totals.requests, ended), (3, (1, 1, 1)));
    assert_eq!((totals.prompt_tokens, totals.completion_tokens), (3, 5));
    let minute = usage.report(None).last_minute;
    assert_eq!(
        (minute.succeeded, minute.failed, minute.cancelled),
        (1, 1, 1)
    );
    assert_eq!((minute.prompt_tokens, minute.completion_tokens), (3, 5));
}

#[bounded::test]
fn tokens_are_not_counted_twice() {
    let (usage, _) = usage();
    let mut record = usage.begin(Operation::Chat);
    record.tokens(2);
    record.tokens(1);
    record.succeed(1, 4);
    let report = usage.report(None);
    assert_eq!(report.totals.completion_tokens, 4);
    assert_eq!(report.last_minute.completion_tokens, 4);
    assert_eq!(report.first_token.map(|latency| latency.count), Some(1));
    let last_minute = report.last_minute;
    assert_eq!(last_minute.per_token.map(|latency| latency.count), Some(1));
}

#[bounded::test]
fn rates_fall_to_zero_within_a_minute() {
    let (usage, epoch) = usage();
    let begun = epoch + seconds(1000.0);
    for second in 0..120 {
        usage.count_tokens(begun + seconds(f64::from(second)), 50);
        usage.observe(begun + seconds(f64::from(second)), succeeded(10));
    }
    let end = begun + seconds(119.5);
    let rate = |at| {
        let minute = usage.report_at(at, SystemTime::now(), None).last_minute;
        (
            minute.tokens_per_second(),
            minute.requests(),
            minute.duration(),
        )
    };
    assert_eq!(rate(end), (3000.0 / 59.5, 60, seconds(59.5)));
    assert_eq!(
        rate(end + seconds(30.0)),
        (1500.0 / 59.5, 30, seconds(59.5))
    );
    assert_eq!(rate(end + seconds(60.0)), (0.0, 0, seconds(59.5)));
    assert_eq!(rate(end + seconds(3600.0)).0, 0.0);
    let report = usage.report_at(end + seconds(3600.0), SystemTime::now(), None);
    assert_eq!(report.last_minute.per_token, None);
    assert_eq!(report.totals.succeeded, 120);
}

#[bounded::test]
fn a_report_after_an_hour_without_requests_covers_the_last_minute() {
    let (usage, epoch) = usage();
    for second in 0..3600 {
        usage.count_tokens(epoch + seconds(f64::from(second)), 1);
        usage.observe(epoch + seconds(f64::from(second)), succeeded(1));
    }
    let report = usage.report_at(epoch + seconds(3599.0), SystemTime::now(), None);
    let minute = report.last_minute;
    assert_eq!((minute.succeeded, minute.completion_tokens), (60, 60));
    assert_eq!(minute.per_token.map(|latency| latency.count), Some(60));
}

#[bounded::test]
fn the_first_seconds_make_no_high_rates() {
    let (usage, epoch) = usage();
    usage.count_tokens(epoch, 40);
    let minute = |after| {
        let at = epoch + seconds(after);
        usage.report_at(at, SystemTime::now(), None).last_minute
    };
    assert_eq!(minute(0.0).tokens_per_second(), 40.0);
    assert_eq!(minute(0.5).tokens_per_second(), 40.0);
    assert_eq!(
        (minute(4.0).tokens_per_second(), minute(4.0).duration()),
        (10.0, seconds(4.0))
    );
    assert_eq!(minute(59.9).completion_tokens, 40);
    assert_eq!(minute(60.0).completion_tokens, 0);
}

#[bounded::test]
fn a_model_that_rested_is_measured_over_the_whole_minute() {
    let (usage, epoch) = usage();
    let begun = epoch + seconds(7200.0);
    usage.count_tokens(begun, 59);
    let at = begun + seconds(0.0);
    let minute = usage.report_at(at, SystemTime::now(), None).last_minute;
    assert_eq!(minute.tokens_per_second(), 1.0);
}

#[bounded::test]
fn samples_follow_one_another_and_add_up() {
    let (usage, epoch) = usage();
    let wall = SystemTime::UNIX_EPOCH + seconds(1e9);
    usage.count_tokens(epoch + seconds(10.0), 7);
    usage.observe(epoch + seconds(10.0), succeeded(3));
    let first = usage.sample_at(epoch + seconds(60.0), wall, Some(HELD));
    let first = first.expect("a sample of a model that was used");
    assert_eq!(
        (
            first.succeeded,
            first.prompt_tokens,
            first.completion_tokens
        ),
        (1, 3, 7)
    );
    assert_eq!(
        (first.duration(), first.start()),
        (seconds(60.0), wall - seconds(60.0))
    );
    assert_eq!(
        (first.memory, first.per_token.map(|latency| latency.count)),
        (Some(HELD), Some(1))
    );

    usage.observe(epoch + seconds(61.0), UsageEvent::Failed);
    let second = usage.sample_at(epoch + seconds(121.0), wall + seconds(61.0), None);
    let second = second.expect("a sample of a model that was used");
    assert_eq!(
        (second.requests(), second.failed, second.completion_tokens),
        (1, 1, 0)
    );
    assert_eq!((second.start(), second.memory), (wall, None));
    assert_eq!(usage.history(), [first, second]);
}

#[bounded::test]
fn minutes_without_worker_and_use_leave_no_sample() {
    let (usage, epoch) = usage();
    let minute =
        |n: f64, memory| usage.sample_at(epoch + seconds(60.0 * n), SystemTime::now(), memory);
    assert_eq!(minute(1.0, None), None);
    assert!(minute(2.0, Some(HELD)).is_some_and(|sample| sample.is_idle()));
    assert_eq!(minute(3.0, None), None);
    let after = minute(4.0, Some(HELD)).expect("a sample of a model that is loaded");
    assert_eq!(after.duration(), seconds(60.0));
    assert_eq!(usage.history().len(), 2);
}

#[bounded::test]
fn a_model_that_does_nothing_takes_little() {
    assert!(size_of::<Usage>() <= 512, "{}", size_of::<Usage>());
}
