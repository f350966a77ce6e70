//! Paths of the machine that built this, which no log and no message shows.
//!
//! Sources of dependencies are compiled from Cargo's registry, and their paths get into the places of panics,
//! backtraces and records of the `log` crate. They are shown from the package on:
//! `tokio-1.54.1/src/lib.rs`.

use std::{borrow::Cow, panic::PanicHookInfo};

/// What stands between the home of a registry and the name of its index.
const REGISTRY: &str = "/registry/src/";

/// `text` without the homes of registries in it.
pub fn shorten(text: &str) -> Cow<'_, str> {
    if !text.contains(REGISTRY) {
        return Cow::Borrowed(text);
    }
    let mut rest = text;
    let mut shown = String::with_capacity(text.len());
    while let Some(at) = rest.find(REGISTRY) {
        let after = &rest[at + REGISTRY.len()..];
        shown.push_str(&rest[..start_of_path(&rest[..at])]);
        rest = after.find('/').map_or("", |end| &after[end + 1..]);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Where the path begins that `text` ends in.
fn start_of_path(text: &str) -> usize {
    let outside = |c: char| c.is_whitespace() || "\"'`()[]{}<>=,;".contains(c);
    let end = text.char_indices().rfind(|(_, c)| outside(*c));
    end.map_or(0, |(at, c)| at + c.len_utf8())
}

/// Logs a panic, with a backtrace where the environment asks for one.
pub(super) fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured)
        .then(|| backtrace.to_string());
    tracing::error!(
        thread,
        location,
        panic = message,
        backtrace,
        "a thread panicked"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "/home/builder/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";

    #[bounded::test]
    fn a_source_is_shown_from_its_package_on() {
        for (around, shown) in [
            ("at PATH:1:2", "at tokio-1.2.3/src/lib.rs:1:2"),
            ("PATH", "tokio-1.2.3/src/lib.rs"),
            (
                "{\"file\":\"PATH\"}",
                "{\"file\":\"tokio-1.2.3/src/lib.rs\"}",
            ),
            (
                "é(PATH) PATH",
                "é(tokio-1.2.3/src/lib.rs) tokio-1.2.3/src/lib.rs",
            ),
        ] {
            let text = around.replace("PATH", &format!("{INDEX}/tokio-1.2.3/src/lib.rs"));
            assert_eq!(shorten(&text), shown);
        }
    }

    #[bounded::test]
    fn other_text_stays_as_it_is() {
        for text in [
            "",
            "registry/src",
            "/models/registry/a.gguf",
            "server/src/lib.rs:1:2",
        ] {
            assert!(matches!(shorten(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(shorten(INDEX), "");
    }
}
