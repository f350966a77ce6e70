//! Statuses that are too long, and what is kept of them.

use std::time::Duration;

use proptest::prelude::*;
use prost::Message;
use tonic::{Code, codegen::http::HeaderMap};
use tonic_types::{ErrorDetails, FieldViolation};

use super::*;

/// Bytes of message and details in the headers that tonic makes of a status.
fn sent(status: &Status) -> usize {
    let mut headers = HeaderMap::new();
    status.add_header(&mut headers).expect("headers");
    let long = |name: &str| headers.get(name).map_or(0, |value| value.len());
    long("grpc-message") + long("grpc-status-details-bin")
}

fn refusal(text: &str, violations: usize) -> Status {
    let metadata = [("field".to_owned(), text.to_owned())];
    let mut details = ErrorDetails::with_error_info("INVALID_FIELD", "hangar.v1", metadata);
    details.set_retry_info(Some(Duration::from_secs(1)));
    details.set_bad_request(vec![FieldViolation::new(text, text); violations]);
    Status::with_error_details(Code::InvalidArgument, text, details)
}

#[bounded::test]
fn what_fits_stays_as_it_is() {
    let status = refusal("wrong", 20);
    let same = bounded(status.clone());
    assert_eq!(
        (same.message(), same.details()),
        ("wrong", status.details())
    );
}

#[bounded::test]
fn what_is_cut_says_so_and_keeps_its_reason() {
    for text in [
        "x".repeat(5000),
        "é".repeat(100_000),
        "\u{1F600}\n".repeat(50_000),
    ] {
        for violations in [0, 1, 100] {
            let cut = bounded(refusal(&text, violations));
            assert!(sent(&cut) <= MAX_ENCODED, "{}", sent(&cut));
            let all = format!("({} {} bytes in all)", "cut:", text.len());
            assert!(cut.message().ends_with(&all), "{}", cut.message());
            let info = cut.get_details_error_info().expect("error info");
            assert_eq!(info.reason, "INVALID_FIELD");
            assert_eq!(info.metadata["truncated"], "true");
            assert!(cut.get_details_retry_info().is_some());
            let fields = cut
                .get_details_bad_request()
                .map_or(0, |bad| bad.field_violations.len());
            assert_eq!(fields > 0, violations > 0);
            // Python's client refuses details with another message.
            let details = tonic_types::Status::decode(cut.details()).expect("details");
            assert_eq!(details.message, cut.message());
        }
    }
}

#[bounded::test]
fn details_that_cannot_be_read_do_not_go_out_when_they_are_long() {
    let cut = bounded(Status::with_details(
        Code::Internal,
        "short",
        vec![0xff; 10_000].into(),
    ));
    assert_eq!((cut.message(), sent(&cut) < MAX_ENCODED), ("short", true));
}

proptest! {
    #[bounded::test]
    fn every_status_fits(
        text in any::<String>(), times in 0..300_usize, entries in 0..30_usize, kinds in 0..128_u8,
    ) {
        let text = text.repeat(times);
        let mut details = ErrorDetails::new();
        if kinds & 1 > 0 {
            let entries = (0..entries).map(|n| (format!("{n}{text}"), text.clone()));
            details.set_error_info(text.clone(), text.clone(), entries.collect::<HashMap<_, _>>());
        }
        if kinds & 2 > 0 {
            details.set_bad_request(vec![FieldViolation::new(&*text, &*text); entries]);
        }
        if kinds & 4 > 0 {
            details.set_resource_info(&*text, &*text, &*text, &*text);
        }
        if kinds & 8 > 0 {
            details.set_localized_message(&*text, &*text);
        }
        if kinds & 16 > 0 {
            details.set_request_info(&*text, &*text);
        }
        if kinds & 32 > 0 {
            details.add_help_link(&*text, &*text);
        }
        if kinds & 64 > 0 {
            details.set_debug_info(vec![text.clone(); entries], &*text);
        }
        let status = Status::with_error_details(Code::NotFound, &*text, details);
        let cut = bounded(status);
        prop_assert!(sent(&cut) <= MAX_ENCODED);
        prop_assert_eq!(cut.code(), Code::NotFound);
    }
}
