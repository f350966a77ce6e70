//! Conversions between the well-known types of protobuf and those of the standard library, and of sources.

use std::time::{Duration, SystemTime};

use crate::v1::{ModelSource, model_source::Source};

/// Longest duration that protobuf allows: about 10,000 years, in seconds.
const LONGEST: u64 = 315_576_000_000;

/// A standard duration as a protobuf one; cut to the longest that protobuf allows.
pub fn to_proto_duration(duration: Duration) -> prost_types::Duration {
    let duration = duration.min(Duration::from_secs(LONGEST));
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A protobuf duration as a standard one; a negative one is zero.
pub fn to_duration(duration: &prost_types::Duration) -> Duration {
    Duration::try_from(*duration).unwrap_or_default()
}

/// A protobuf timestamp as a system time; `None` when the system cannot represent it.
pub fn to_system_time(timestamp: &prost_types::Timestamp) -> Option<SystemTime> {
    SystemTime::try_from(*timestamp).ok()
}

impl From<Source> for ModelSource {
    fn from(source: Source) -> Self {
        Self {
            source: Some(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn durations_survive_the_round_trip() {
        for duration in [
            Duration::ZERO,
            Duration::from_nanos(1_500_000_001),
            Duration::from_secs(300),
        ] {
            assert_eq!(to_duration(&to_proto_duration(duration)), duration);
        }
    }

    #[bounded::test]
    fn durations_out_of_range_are_cut() {
        assert_eq!(
            to_duration(&to_proto_duration(Duration::MAX)),
            Duration::from_secs(LONGEST)
        );
        assert_eq!(
            to_duration(&prost_types::Duration {
                seconds: -1,
                nanos: -1
            }),
            Duration::ZERO
        );
    }

    #[bounded::test]
    fn a_timestamp_of_zero_is_the_unix_epoch() {
        let epoch = prost_types::Timestamp {
            seconds: 0,
            nanos: 0,
        };
        assert_eq!(to_system_time(&epoch), Some(SystemTime::UNIX_EPOCH));
    }
}
