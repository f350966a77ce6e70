//! Types that are written as texts.

/// Reads these types as texts that [`std::str::FromStr`] takes.
macro_rules! deserialize_from_text {
    ($($type:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(source)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// Writes these types as the texts that [`std::fmt::Display`] gives.
macro_rules! serialize_to_text {
    ($($type:ty),*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
                sink.collect_str(self)
            }
        }
    )*};
}

pub(crate) use deserialize_from_text;
pub(super) use serialize_to_text;
