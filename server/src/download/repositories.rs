//! Which repositories may be loaded.

use std::fmt;

/// Patterns of the repositories that may be loaded, in which `*` stands for any characters. Without a
/// pattern none may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repositories(Vec<String>);

impl Repositories {
    /// Those that match one of `patterns`.
    pub fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// Whether `repository` may be loaded. Case counts.
    pub fn allow(&self, repository: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, repository))
    }
}

impl fmt::Display for Repositories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there are none");
        }
        f.write_str(&self.0.join(", "))
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let head = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(head) else {
        return false;
    };
    let Some(tail) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn only_what_matches_is_allowed() {
        for (pattern, repository, allowed) in [
            ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", true),
            ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base", false),
            ("Qwen/Qwen3-0.6B", "qwen/qwen3-0.6b", false),
            ("Qwen/*", "Qwen/Qwen3", true),
            ("Qwen/*", "QwenX/Qwen3", false),
            ("Qwen/*", "X/Qwen/Qwen3", false),
            ("*", "anything/at-all", true),
            ("*/Qwen3*-Instruct", "Qwen/Qwen3-8B-Instruct", true),
            ("*/Qwen3*-Instruct", "Qwen/Qwen3-8B-Base", false),
            ("a*a", "a", false),
            ("", "a", false),
        ] {
            let repositories = Repositories::new(vec![pattern.to_owned()]);
            assert_eq!(
                repositories.allow(repository),
                allowed,
                "{pattern} {repository}"
            );
        }
        assert!(!Repositories::default().allow("a/b"));
    }
}
