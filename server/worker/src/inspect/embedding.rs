//! What is special about an embedding model in a directory.

use std::collections::BTreeSet;

use hangar_client::v1::{DataType, ModelKind};

use super::{
    modules::{LIST, Modules, Pooling, SENTENCE_TRANSFORMERS_CONFIG},
    weights::Weights,
};
use crate::failure::Failure;

/// The architecture whose tokens see those on both of their sides.
const GEMMA: &str = "Gemma3TextModel";

/// What the model in a directory with files of these names is for: what the spec says, if it says anything.
pub(super) fn kind(asked: ModelKind, names: &BTreeSet<String>) -> Result<ModelKind, Failure> {
    let listed = names.contains(LIST);
    match asked {
        ModelKind::Unspecified if listed || names.contains(SENTENCE_TRANSFORMERS_CONFIG) => {
            Ok(ModelKind::Embedding)
        }
        ModelKind::Unspecified => Ok(ModelKind::Text),
        ModelKind::Embedding if !listed => Err(Failure::unusable(
            "The spec's kind is embedding, but the directory has no modules.json, which says how an \
             embedding model makes its vectors. Add the file that belongs to the model, or leave the kind \
             out.",
        )),
        asked => Ok(asked),
    }
}

/// Checks that the weights are named as those of this kind of model are.
pub(super) fn check_names(kind: ModelKind, weights: &Weights) -> Result<(), Failure> {
    match (kind, weights.bare) {
        (ModelKind::Text, true) => Err(Failure::unusable(
            "The model is taken for a text model, but its weights are those of an embedding model, without a \
             head that chooses tokens. Set the kind to embedding or leave it out, and add modules.json if it \
             is missing.",
        )),
        (ModelKind::Embedding, false) => Err(Failure::unusable(
            "The weights are not those of an embedding model: there is no embed_tokens.weight among them. \
             Get the model as the sentence-transformers library writes it, or set the kind to text if it \
             is a text model.",
        )),
        _ => Ok(()),
    }
}

/// Checks what else the engine would compute wrongly or not at all.
pub(super) fn check(quantization: &str, context: Option<u32>) -> Result<(), Failure> {
    if !quantization.is_empty() {
        return Err(Failure::unusable(format!(
            "Embedding models cannot be quantized to {quantization} when they are loaded. Leave the \
             quantization out."
        )));
    }
    if context.is_none() {
        return Err(Failure::unusable(
            "config.json has a max_position_embeddings of 0. Get the config.json that belongs to the model.",
        ));
    }
    Ok(())
}

/// The data type that was asked for, else one in which the engine computes such vectors well. Sums of many
/// tokens' vectors are beyond F16.
pub(super) fn dtype(
    asked: DataType,
    modules: Option<&Modules>,
    chosen: DataType,
) -> Result<DataType, Failure> {
    match (asked, modules.map(|modules| modules.pooling)) {
        (DataType::F16, Some(Pooling::Mean)) => Err(Failure::unusable(
            "Embedding models that pool by the mean cannot be computed in F16, whose numbers are too small \
             for the sums. Set dtype to f32 or leave it out.",
        )),
        (DataType::Unspecified, Some(Pooling::Mean)) => Ok(DataType::F32),
        _ => Ok(chosen),
    }
}

/// Bytes that the masks of attention take for each pair of tokens, where a number takes `number` bytes: the
/// masks themselves, what they are made from, and a copy in F32. For a text of 8,160 tokens in a context of 8,192,
/// a tiny Qwen3 grew by 590 MB in F32 and 458 MB in F16, where this says 671 and 537; a Gemma by 535 MB where it says
/// 1,074, since what is nothing but zeros takes no memory before it is written.
pub(super) fn mask_bytes(architecture: &str, number: u64) -> u64 {
    const F32: u64 = 4;
    match architecture {
        // One for all layers, and one for those with a window.
        GEMMA => 2 * number + 2 * F32,
        _ => number + 2 + F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[bounded::test]
    fn files_decide_the_kind_unless_the_spec_does() {
        let of = |asked, files: &[&str]| kind(asked, &names(files)).ok();
        use ModelKind::{Embedding, Text, Unspecified};
        assert_eq!(of(Unspecified, &["config.json"]), Some(Text));
        assert_eq!(of(Unspecified, &[LIST]), Some(Embedding));
        assert_eq!(
            of(Unspecified, &[SENTENCE_TRANSFORMERS_CONFIG]),
            Some(Embedding)
        );
        assert_eq!(of(Text, &[LIST, SENTENCE_TRANSFORMERS_CONFIG]), Some(Text));
        assert_eq!(of(Embedding, &[LIST]), Some(Embedding));
        assert_eq!(of(Embedding, &["config.json"]), None);
    }

    #[bounded::test]
    fn what_cannot_be_asked_of_vectors_is_refused() {
        assert!(check("", Some(256)).is_ok());
        assert!(check("", None).is_err());
        assert!(check("q4k", Some(256)).is_err());
    }
}
