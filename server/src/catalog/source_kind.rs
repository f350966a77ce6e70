//! Where a model comes from, as lists are filtered by it.

use strum::IntoStaticStr;

use crate::model::Source;

/// Kinds of [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs, reason = "the variants are those of Source")]
pub enum SourceKind {
    Path,
    HuggingFace,
    Demo,
}

impl SourceKind {
    /// How the table names it.
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

impl From<&Source> for SourceKind {
    fn from(source: &Source) -> Self {
        match source {
            Source::Path(_) => Self::Path,
            Source::HuggingFace(_) => Self::HuggingFace,
            Source::Demo => Self::Demo,
        }
    }
}
