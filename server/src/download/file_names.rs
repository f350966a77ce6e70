//! Names that come from a hub and become paths: what they must fulfil first.

use std::path::{Component, Path};

/// Whether `text` is the id of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

/// Whether `text` is a SHA-256 digest in hexadecimal digits.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Whether `name` stays where it is put: a relative path of plain names.
pub(super) fn is_inside(name: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    name.len() <= 1024
        && name.split('/').all(plain)
        && !name.contains(['\\', '\0'])
        && !name.chars().any(char::is_control)
        && Path::new(name)
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
}

/// Whether `name` can also stand in a URL and in a log as it is.
pub(super) fn is_plain(name: &str) -> bool {
    is_inside(name)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._/-+=@".contains(&byte))
}

/// Whether `name` can be that of a blob of the cache: letters, digits, `_` and `-`.
pub(super) fn is_blob_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn is_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn names_that_lead_elsewhere_are_not_inside() {
        for name in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../a",
            "a/../b",
            "a/..",
            "a//b",
            "a/",
            "./a",
            "a\\b",
            "a\0",
            "a\nb",
        ] {
            assert!(!is_inside(name), "{name:?}");
        }
        for name in ["a", "a/b.json", "..a", "a..b", "ü", "a b"] {
            assert!(is_inside(name), "{name:?}");
        }
        assert!(!is_plain("a b") && !is_plain("a?b") && is_plain("1_Pooling/config.json"));
    }

    #[bounded::test]
    fn commits_and_digests_are_lower_case_hexadecimal() {
        assert!(is_commit(&"a1".repeat(20)) && is_sha256(&"0f".repeat(32)));
        assert!(!is_commit("main") && !is_commit(&"A1".repeat(20)) && !is_sha256(&"a1".repeat(20)));
    }
}
