//! Names of the files that mark an embedding model, and how much of a text of its files messages show.

/// The file that lists the modules.
pub(in crate::inspect) const LIST: &str = "modules.json";

/// The file by which the sentence-transformers library marks its models.
pub(in crate::inspect) const SENTENCE_TRANSFORMERS_CONFIG: &str =
    "config_sentence_transformers.json";

/// Longest text of a file in a message.
pub(super) const LONGEST: usize = 64;
