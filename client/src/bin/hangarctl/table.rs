//! Values and tables for people.

use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use comfy_table::{ContentArrangement, Table, presets};
use hangar_client::{convert, v1};

/// A table without borders, with these headings.
pub(crate) fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings);
    table
}

/// A name and its value.
pub(crate) type Field = (&'static str, String);

/// A line for each field; those without a value are left out.
pub(crate) fn fields(fields: impl IntoIterator<Item = Field>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        table.add_row([name, &value]);
    }
    trimmed(&table)
}

/// The table's text without spaces at the ends of its lines.
pub(crate) fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Bytes, for example "1.2 GiB".
pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

/// A share of one, for example "42 %".
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A time span, rounded for people, for example "1m 3s" or "230ms".
pub(crate) fn duration_text(duration: Duration) -> String {
    let rounded = match duration {
        d if d < Duration::from_secs(1) => {
            Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(0))
        }
        d if d < Duration::from_secs(10) => {
            Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(0) / 100 * 100)
        }
        d => Duration::from_secs(d.as_secs()),
    };
    humantime::format_duration(rounded).to_string()
}

/// A latency, for example "0.4ms", "12ms" or "1s 200ms".
pub(crate) fn latency(duration: Duration) -> String {
    if duration < Duration::from_millis(10) {
        format!("{:.1}ms", duration.as_secs_f64() * 1e3)
    } else {
        duration_text(duration)
    }
}

/// A share of successes, never rounded up, for example "99.9 %".
pub(crate) fn success(share: f64) -> String {
    format!("{} %", (share * 1e3).floor() / 10.0)
}

/// A time span of a message; empty when it is not set.
pub(crate) fn duration_text_of(duration: Option<&prost_types::Duration>) -> String {
    duration
        .map(convert::to_duration)
        .map(duration_text)
        .unwrap_or_default()
}

/// How long ago a time of a message was; empty when it is not set.
pub(crate) fn ago(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(convert::to_system_time);
    let age = time.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
    age.map(|age| format!("{} ago", duration_text(Duration::from_secs(age.as_secs()))))
        .unwrap_or_default()
}

/// How long until a time of a message, or how long ago it was; empty when it is not set.
pub(crate) fn from_now(time: Option<&prost_types::Timestamp>) -> String {
    let Some(at) = time.and_then(convert::to_system_time) else {
        return String::new();
    };
    match at.duration_since(SystemTime::now()) {
        Ok(left) => format!("in {}", duration_text(Duration::from_secs(left.as_secs()))),
        Err(_) => ago(time),
    }
}

/// The time from one time of a message to another; empty when one is not set.
pub(crate) fn between(
    start: Option<&prost_types::Timestamp>,
    end: Option<&prost_types::Timestamp>,
) -> String {
    let start = start.and_then(convert::to_system_time);
    let end = end.and_then(convert::to_system_time);
    let time = start
        .zip(end)
        .and_then(|(start, end)| end.duration_since(start).ok());
    time.map(duration_text).unwrap_or_default()
}

/// A state without its prefix, for example "READY".
pub(crate) fn state(status: &v1::ModelStatus) -> &'static str {
    short(status.state().as_str_name(), "MODEL_STATE_")
}

/// The name of an enum's value without its prefix; empty when it is not set.
pub(crate) fn short<'a>(name: &'a str, prefix: &str) -> &'a str {
    match name.strip_prefix(prefix).unwrap_or(name) {
        "UNSPECIFIED" => "",
        name => name,
    }
}

/// A number, or nothing for zero.
pub(crate) fn unless_zero(number: u64) -> String {
    if number == 0 {
        String::new()
    } else {
        number.to_string()
    }
}

/// How far a load is, for example "42 %, 1.2 GiB of 2.9 GiB, 3s left".
pub(crate) fn progress(progress: &v1::Progress) -> String {
    let mut text = percent(progress.fraction);
    if progress.bytes_total > 0 {
        text += &format!(
            ", {} of {}",
            bytes(progress.bytes_done),
            bytes(progress.bytes_total)
        );
    }
    match duration_text_of(progress.eta.as_ref()) {
        eta if eta.is_empty() => text,
        eta => format!("{text}, {eta} left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn spans_are_rounded() {
        assert_eq!(duration_text(Duration::from_micros(1_234_567)), "1s 200ms");
        assert_eq!(duration_text(Duration::from_millis(83_456)), "1m 23s");
        assert_eq!(duration_text(Duration::from_micros(4_900)), "4ms");
    }

    #[bounded::test]
    fn latencies_below_a_millisecond_are_printed() {
        assert_eq!(latency(Duration::from_micros(449)), "0.4ms");
        assert_eq!(latency(Duration::from_micros(12_900)), "12ms");
    }

    #[bounded::test]
    fn one_failure_of_many_shows() {
        assert_eq!(success(1.0), "100 %");
        assert_eq!(success(99_999.0 / 100_000.0), "99.9 %");
        assert_eq!(success(0.0), "0 %");
    }

    #[bounded::test]
    fn progress_shows_what_is_known() {
        let mut known = v1::Progress {
            fraction: 0.42,
            ..Default::default()
        };
        assert_eq!(progress(&known), "42 %");
        (known.bytes_done, known.bytes_total) = (1024, 2048);
        known.eta = Some(convert::to_proto_duration(Duration::from_secs(3)));
        assert_eq!(progress(&known), "42 %, 1.0 KiB of 2.0 KiB, 3s left");
    }

    #[bounded::test]
    fn fields_without_a_value_are_left_out() {
        assert_eq!(
            fields([("a", "1".to_owned()), ("b", String::new())]).trim(),
            "a  1"
        );
    }
}
