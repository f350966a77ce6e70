//! What requests ask of a model.

use strum::{IntoStaticStr, VariantArray};

/// What a request asks for, by the names of the GenAI semantic conventions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Operation {
    /// An answer to a conversation.
    Chat,
    /// The continuation of a text.
    TextCompletion,
    /// Vectors of texts.
    Embeddings,
}

impl Operation {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
