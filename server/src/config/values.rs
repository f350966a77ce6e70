//! Kinds of values, how they are written, and what each must fulfil by itself.

use std::{fmt, io::IsTerminal, marker::PhantomData, str::FromStr, time::Duration};

use bytesize::ByteSize;
use clap::ValueEnum;
use serde::{Deserialize, Deserializer};

use super::ConfigError;
use crate::model::deserialize_from_text;

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What readiness waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    /// Every required model has been READY or FAILED once: one bad model does not take the healthy ones out
    /// of their Service.
    #[default]
    Started,
    /// Every required model is READY.
    Required,
}

/// A span of time, written as `30s`, `1m 30s` or `50ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(Duration);

/// A number of bytes, written as `16MiB`, `500kB` or `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

/// As good as for ever, and clocks can hold what it leads to.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// The longest time between two heartbeats: clients take a server that says nothing for twice as long for gone.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(30);

/// A text that is not a value of its kind.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl LogFormat {
    /// Text when a person reads along, else JSON.
    pub(super) fn detect() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

deserialize_from_text!(Seconds, Size);

impl FromStr for Seconds {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let span = humantime::parse_duration(text).map_err(|error| {
            ValueError(format!(
                "{text:?} is not a span of time ({error}): write it like 30s, 5m or 50ms"
            ))
        })?;
        if span > LONGEST {
            let words = "is out of range: must be at most 365days";
            return Err(ValueError(format!("{text:?} {words}")));
        }
        Ok(Self(span))
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        seconds.0
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse::<ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| {
                ValueError(format!(
                    "{text:?} is not a size: write it like 16MiB, 500kB or 4096"
                ))
            })
    }
}

impl From<Size> for u64 {
    fn from(size: Size) -> Self {
        size.0
    }
}

/// At least one.
pub(super) fn count<T>(key: &'static str, given: Option<T>, default: T) -> Result<T, ConfigError>
where
    T: PartialEq + From<u8>,
{
    match given {
        Some(zero) if zero == T::from(0) => Err(ConfigError::invalid(key, "must be at least 1")),
        given => Ok(given.unwrap_or(default)),
    }
}

/// More than no time.
pub(super) fn positive(
    key: &'static str,
    given: Option<Seconds>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    match given.map_or(default, Duration::from) {
        Duration::ZERO => Err(ConfigError::invalid(key, "must be more than 0s")),
        time => Ok(time),
    }
}

/// Time between heartbeats of a watch: more than none, and short enough for clients.
pub(super) fn heartbeat(
    key: &'static str,
    given: Option<Seconds>,
) -> Result<Duration, ConfigError> {
    let time = positive(key, given, Duration::from_secs(15))?;
    if time > LONGEST_HEARTBEAT {
        return Err(ConfigError::invalid(key, "must be at most 30s"));
    }
    Ok(time)
}

/// Size of a request: from 4 KiB to 64 MiB, which workers take.
pub(super) fn size(key: &'static str, given: Option<Size>) -> Result<usize, ConfigError> {
    let allowed = ByteSize::kib(4)..=ByteSize::mib(64);
    let size = given.map_or(ByteSize::mib(16), |size| ByteSize::b(size.0));
    match usize::try_from(size.as_u64()) {
        Ok(bytes) if allowed.contains(&size) => Ok(bytes),
        _ => Err(ConfigError::invalid(
            key,
            format!("{size} is out of range: must be from 4KiB to 64MiB"),
        )),
    }
}

/// Memory of all requests, which has to do for the bytes of one of the largest, as they come, as they are unpacked and as
/// they are read. One with so many parts that it takes more is refused.
pub(super) fn request_memory(
    given: Option<Size>,
    max_request_bytes: usize,
) -> Result<usize, ConfigError> {
    let Some(Size(given)) = given else {
        return Ok(256 << 20);
    };
    let least = 3 * max_request_bytes;
    usize::try_from(given)
        .ok()
        .filter(|given| *given >= least)
        .ok_or_else(|| {
            let least = ByteSize::b(least as u64);
            let what = format!("must be at least three times max_request_bytes, which is {least}");
            ConfigError::invalid("max_request_memory", what)
        })
}

/// From 0 to 1.
pub(super) fn ratio(
    key: &'static str,
    given: Option<f64>,
    default: f64,
) -> Result<f64, ConfigError> {
    let ratio = given.unwrap_or(default);
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(ConfigError::invalid(
            key,
            format!("{ratio} is out of range: must be from 0 to 1"),
        ))
    }
}

/// A URL that a gRPC client can connect to.
pub(super) fn endpoint(given: Option<String>) -> Result<Option<String>, ConfigError> {
    let Some(text) = given else { return Ok(None) };
    let usable = text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
    });
    if usable {
        Ok(Some(text))
    } else {
        Err(ConfigError::invalid(
            "otlp_endpoint",
            format!("{text:?} is not a URL of a collector: write it like http://localhost:4317"),
        ))
    }
}

/// An empty text in the environment means that a setting is not given.
pub(super) fn not_empty(given: Option<String>) -> Option<String> {
    given.filter(|text| !text.is_empty())
}

/// Reads a text or a list of texts.
pub(super) fn one_or_more<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + From<String>,
{
    struct Texts<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + From<String>> serde::de::Visitor<'de> for Texts<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![T::from(text.to_owned())])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut texts: A,
        ) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(text) = texts.next_element()? {
                all.push(text);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(Texts(PhantomData)).map(Some)
}
