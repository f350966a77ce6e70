//! How sessions are called: the key that whoever opened one has, and the name that everybody may see.

use std::{fmt, sync::Arc};

use uuid::Uuid;

/// The key to a session: whoever knows it may close the session and unload what it holds.
///
/// Only whoever opened the session knows it. It is neither displayed nor logged; [`SessionName`] is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Arc<str>);

/// What everybody may see of a session. No call takes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(Arc<str>);

/// Hexadecimal digits that distinguish sessions of the same display name.
const NAME_DIGITS: usize = 12;

impl SessionId {
    /// A new one, which nobody can guess.
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string().into())
    }

    /// The id itself, for whoever opened the session.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for SessionId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

impl SessionName {
    /// A new name that begins with `display_name`. It has nothing in common with the session's id.
    pub(super) fn new(display_name: &str) -> Self {
        let random = Uuid::new_v4().simple().to_string();
        let digits = &random[..NAME_DIGITS];
        if display_name.is_empty() {
            return Self(digits.into());
        }
        Self(format!("{display_name}-{digits}").into())
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
