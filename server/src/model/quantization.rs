//! Types of quantization.

use std::{fmt, str::FromStr};

use super::text::{deserialize_from_text, serialize_to_text};

/// A type of in-situ quantization, for example "q4k": at most 32 letters, digits and "_", in lower case. Whether the
/// engine knows it is for the worker to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantization(String);

/// A text that is no type of quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a type of quantization such as \"q4k\" or \"q8_0\"")]
pub struct InvalidQuantization;

/// Longest name in bytes.
const MAX_LEN: usize = 32;

impl Quantization {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

deserialize_from_text!(Quantization);
serialize_to_text!(Quantization);

impl FromStr for Quantization {
    type Err = InvalidQuantization;

    fn from_str(name: &str) -> Result<Self, InvalidQuantization> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        match (1..=MAX_LEN).contains(&name.len()) && name.bytes().all(known) {
            true => Ok(Self(name.to_ascii_lowercase())),
            false => Err(InvalidQuantization),
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn names_are_short_and_in_lower_case() {
        let parsed = "Q8_0".parse::<Quantization>();
        assert_eq!(parsed.as_ref().map(Quantization::as_str), Ok("q8_0"));
        for name in ["", "q 4", "q4-k", "é", &"x".repeat(33)] {
            assert_eq!(name.parse::<Quantization>(), Err(InvalidQuantization));
        }
    }
}
