//! What a model is for, as far as that is known, and what it is refused therefore.

use crate::{
    catalog::CatalogEntry,
    model::{Failure, ModelKind, Operation, Reason, Spec},
};

/// What is known of a model's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownKind {
    /// That of the files which its worker serves, else that which its spec names: others do not become READY.
    Certain(ModelKind),
    /// That of its files when they were loaded last, which may be others by now.
    Remembered(ModelKind),
    /// Its spec does not say, and it was never loaded.
    Unknown,
}

impl KnownKind {
    /// That of a model of `spec` whose files were `found` to be of a kind when they were read last: by the worker that
    /// `serves` them, or by an earlier one.
    pub(super) fn new(spec: &Spec, found: Option<ModelKind>, serves: bool) -> Self {
        match (spec.kind, found) {
            (_, Some(found)) if serves => Self::Certain(found),
            (Some(kind), _) => Self::Certain(kind),
            (None, Some(found)) => Self::Remembered(found),
            (None, None) => Self::Unknown,
        }
    }

    /// That of the model of `entry`, which nothing was done with since the start.
    pub fn of_entry(entry: &CatalogEntry) -> Self {
        Self::new(&entry.spec, entry.learned.metadata.kind, false)
    }

    /// The kind, be it certain or remembered.
    pub fn kind(self) -> Option<ModelKind> {
        match self {
            Self::Certain(kind) | Self::Remembered(kind) => Some(kind),
            Self::Unknown => None,
        }
    }

    /// Refuses what a model of this kind cannot do. One whose kind is not known says so itself.
    ///
    /// # Errors
    ///
    /// What the caller hears.
    pub fn check(self, operation: Operation) -> Result<(), Failure> {
        let embeds = operation == Operation::Embeddings;
        let what = match self.kind() {
            Some(ModelKind::Embedding) if !embeds => {
                "this model gives vectors and no text; use Embed, or load a text model"
            }
            Some(kind) if embeds && kind != ModelKind::Embedding => {
                "this model gives no vectors; use Generate, or load an embedding model"
            }
            Some(_) | None => return Ok(()),
        };
        Err(Failure::new(Reason::UnsupportedByModel, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;

    #[bounded::test]
    fn the_files_that_are_served_decide_then_the_spec_then_the_last_load() {
        use KnownKind::{Certain, Remembered, Unknown};
        use ModelKind::{Embedding, Text};
        for (said, found, serves, known) in [
            (None, None, false, Unknown),
            (None, None, true, Unknown),
            (None, Some(Text), false, Remembered(Text)),
            (None, Some(Text), true, Certain(Text)),
            (Some(Text), None, false, Certain(Text)),
            (Some(Text), Some(Embedding), false, Certain(Text)),
            (Some(Text), Some(Embedding), true, Certain(Embedding)),
        ] {
            let spec = Spec {
                kind: said,
                ..Spec::of(Source::Demo)
            };
            assert_eq!(
                KnownKind::new(&spec, found, serves),
                known,
                "{said:?} {found:?} {serves}"
            );
        }
    }

    #[bounded::test]
    fn a_remembered_kind_refuses_what_a_certain_one_does() {
        for kind in [ModelKind::Text, ModelKind::Embedding] {
            for operation in [Operation::Chat, Operation::Embeddings] {
                let [certain, remembered] = [KnownKind::Certain(kind), KnownKind::Remembered(kind)]
                    .map(|known| known.check(operation).is_ok());
                assert_eq!(certain, remembered, "{kind:?} {operation:?}");
            }
        }
    }
}
