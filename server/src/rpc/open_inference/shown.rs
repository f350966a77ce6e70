//! What clients made up, in errors.

/// The beginning of a name that a client made up, for an error.
pub(super) fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(32).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}
