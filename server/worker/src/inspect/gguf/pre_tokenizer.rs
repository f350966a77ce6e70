//! How a text is cut before its bytes are put together to tokens, by the name in `tokenizer.ggml.pre`.

use crate::failure::Failure;

/// A way to cut texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    /// Patterns, each of which cuts what those before it have left.
    pub(super) split_patterns: &'static [&'static str],
    /// A piece that is a token is taken as it is.
    pub(super) whole_words: bool,
    /// A text begins with the token for that where the file does not say.
    pub(super) add_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const PLAIN: PreTokenizer = PreTokenizer {
    names: &[],
    split_patterns: &[],
    whole_words: false,
    add_bos: false,
};

const ALL: [PreTokenizer; 9] = [
    PreTokenizer {
        names: &["default"],
        split_patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ..PLAIN
    },
    PreTokenizer {
        names: &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        split_patterns: &[LLAMA3],
        whole_words: true,
        add_bos: true,
    },
    PreTokenizer {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        split_patterns: &[LLAMA3],
        ..PLAIN
    },
    PreTokenizer {
        names: &["glm4", "glm5"],
        split_patterns: &[LLAMA3],
        whole_words: true,
        ..PLAIN
    },
    PreTokenizer {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "megrez",
        ],
        split_patterns: &[QWEN2],
        ..PLAIN
    },
    PreTokenizer {
        names: &[
            "gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "olmo", "mpt", "jais", "exaone4",
        ],
        split_patterns: &[GPT2],
        ..PLAIN
    },
    PreTokenizer {
        names: &["starcoder", "refact", "command-r", "smollm", "codeshell"],
        split_patterns: &[r"\p{N}", GPT2],
        ..PLAIN
    },
    PreTokenizer {
        names: &["falcon"],
        split_patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
        ..PLAIN
    },
    PreTokenizer {
        names: &["tekken"],
        split_patterns: &[TEKKEN],
        whole_words: true,
        add_bos: true,
    },
];

/// The way of this name.
pub(super) fn find(name: &str) -> Result<&'static PreTokenizer, Failure> {
    ALL.iter().find(|pre| pre.names.contains(&name)).ok_or_else(|| {
        Failure::unusable(format!(
            "Its tokenizer.ggml.pre is {name:?}, which this version of Hangar does not know, so that texts would be \
             cut to other tokens than the model's. Give the spec a tokenizer (its tokenizer.json), or load the \
             model's safetensors."
        ))
    })
}
