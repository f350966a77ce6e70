//! How splitting a text into tokens, rendering one or putting tokens together fails.

/// Why a text was not split into tokens, or tokens were not put together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextError {
    /// The tokenizer refuses it.
    #[error("{0}")]
    Refused(String),
    /// Nobody waits for it any more.
    #[error("nobody waits for it any more")]
    Cancelled,
}
