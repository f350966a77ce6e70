//! Names that clients made up, in errors.

/// The beginning of a name that a client made up, for an error.
pub(super) fn truncated(name: &str) -> String {
    let mut truncated: String = name.chars().take(32).collect();
    if truncated.len() < name.len() {
        truncated.push('…');
    }
    format!("{truncated:?}")
}
