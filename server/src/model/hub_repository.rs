//! Names of repositories of the Hugging Face hub.

use std::{fmt, str::FromStr};

use super::text::{deserialize_from_text, serialize_to_text};

/// Name of a repository, such as "Qwen/Qwen3-0.6B": its owner, if it has one, and its own. Neither leads out of a
/// directory that is named after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRepository(String);

/// A text that names no repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a repository such as \"Qwen/Qwen3-0.6B\"")]
pub struct InvalidHubRepository;

/// Longest part in bytes.
const MAX_PART: usize = 96;

impl HubRepository {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

deserialize_from_text!(HubRepository);
serialize_to_text!(HubRepository);

impl FromStr for HubRepository {
    type Err = InvalidHubRepository;

    fn from_str(text: &str) -> Result<Self, InvalidHubRepository> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = |part: &str| {
            (1..=MAX_PART).contains(&part.len())
                && !part.contains("..")
                && !part.starts_with(['.', '-'])
                && part.bytes().all(known)
        };
        match text.split('/').count() <= 2 && text.split('/').all(is_name) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidHubRepository),
        }
    }
}

impl fmt::Display for HubRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_repository_has_a_name_and_may_have_an_owner() {
        for name in ["gpt2", "Qwen/Qwen3-0.6B", "a/b_c", &"x".repeat(96)] {
            assert_eq!(name.parse().as_ref().map(HubRepository::as_str), Ok(name));
        }
        let bad = [
            "",
            "a/",
            "/a",
            "a/b/c",
            "../a",
            "a/.b",
            "-a/b",
            "a b/c",
            "é/b",
            &"x".repeat(97),
        ];
        for name in bad {
            assert_eq!(
                name.parse::<HubRepository>(),
                Err(InvalidHubRepository),
                "{name}"
            );
        }
    }
}
