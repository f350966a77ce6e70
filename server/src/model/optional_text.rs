//! What may be missing, written as a text that is empty then: for `#[serde(with)]`.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Writes `value` as [`Display`] gives it.
pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, sink: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => sink.collect_str(value),
        None => "".serialize(sink),
    }
}

/// Reads what [`FromStr`] takes.
pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    source: D,
) -> Result<Option<T>, D::Error> {
    match String::deserialize(source)?.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(D::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use crate::model::DeviceName;

    #[derive(Default, PartialEq, Debug, Serialize, Deserialize)]
    struct Record {
        #[serde(default, with = "super")]
        device: Option<DeviceName>,
    }

    #[bounded::test]
    fn what_is_missing_is_an_empty_text() {
        for (device, text) in [
            (None, r#"{"device":""}"#),
            (Some(DeviceName::Ordinal(1)), r#"{"device":"cuda:1"}"#),
        ] {
            let record = Record { device };
            assert_eq!(serde_json::to_string(&record).ok().as_deref(), Some(text));
            assert_eq!(serde_json::from_str(text).ok(), Some(record));
        }
        assert_eq!(serde_json::from_str("{}").ok(), Some(Record::default()));
        assert!(serde_json::from_str::<Record>(r#"{"device":"tpu"}"#).is_err());
    }
}
