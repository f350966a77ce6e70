//! The class of a tokenizer, as transformers 5 chooses it: by the type of the model, and by the class that the files name.

use serde_json::{Map, Value};

use super::{TokenizerSidecars, other_classes::OTHER_CLASSES};
use crate::failure::Failure;

/// What transformers makes of a tokenizer.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// What it says.
    AsWritten,
    CodeLlama,
    Cohere,
    Gemma,
    Gpt2,
    GptNeoX,
    Llama,
    Qwen2,
}

/// What transformers knows of a type of models.
#[derive(Clone, Copy)]
enum OfModel {
    /// Its tokenizers are of this class, whatever the files name.
    Always(Class),
    /// They are of this class where the files name none.
    Default(Class),
    Unknown,
}

/// A class as a file names it.
#[derive(Clone, Copy)]
struct Named<'a> {
    name: &'a str,
    file: &'static str,
}

/// Names of what takes a tokenizer.json as it is.
const GENERAL: [&str; 4] = [
    "BloomTokenizer",
    "PreTrainedTokenizer",
    "PythonBackend",
    "TokenizersBackend",
];

impl Class {
    /// The class for a tokenizer.json with these fields.
    pub(super) fn of(
        tokenizer: &Map<String, Value>,
        sidecars: &TokenizerSidecars,
    ) -> Result<Self, Failure> {
        let of_model = OfModel::of(sidecars.model_type.as_deref().unwrap_or_default());
        let named = Named::of(sidecars);
        if has_code(&sidecars.config) {
            return without_code(of_model, named);
        }
        match (of_model, named) {
            (OfModel::Always(class), _) | (OfModel::Default(class), None) => Ok(class),
            (OfModel::Unknown, None) => Ok(Self::AsWritten),
            (_, Some(named)) => match named.class()? {
                Self::Llama if is_byte_level(tokenizer) => Ok(Self::AsWritten),
                class => Ok(class),
            },
        }
    }

    /// Special tokens of the class where no file says which they are, by their names.
    pub(super) fn special(self) -> &'static [(&'static str, &'static str)] {
        const END: &str = "<|endoftext|>";
        match self {
            Self::AsWritten => &[],
            Self::CodeLlama => &[
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("unk_token", "<unk>"),
                ("prefix_token", "▁<PRE>"),
                ("middle_token", "▁<MID>"),
                ("suffix_token", "▁<SUF>"),
                ("eot_token", "▁<EOT>"),
                ("fill_token", "<FILL_ME>"),
            ],
            Self::Cohere => &[
                ("bos_token", "<BOS_TOKEN>"),
                ("eos_token", "<|END_OF_TURN_TOKEN|>"),
                ("unk_token", "<UNK>"),
                ("sep_token", "<SEP>"),
                ("pad_token", "<PAD>"),
                ("cls_token", "<CLS>"),
                ("mask_token", "<MASK_TOKEN>"),
            ],
            Self::Gemma => &[
                ("bos_token", "<bos>"),
                ("eos_token", "<eos>"),
                ("unk_token", "<unk>"),
                ("pad_token", "<pad>"),
                ("mask_token", "<mask>"),
            ],
            Self::Gpt2 => &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
            Self::GptNeoX => &[
                ("bos_token", END),
                ("eos_token", END),
                ("unk_token", END),
                ("pad_token", "<|padding|>"),
            ],
            Self::Llama => &[
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("unk_token", "<unk>"),
            ],
            Self::Qwen2 => &[("eos_token", END), ("unk_token", END), ("pad_token", END)],
        }
    }
}

impl OfModel {
    /// By the type of the model in config.json.
    fn of(model_type: &str) -> Self {
        match model_type {
            "gemma" | "gemma2" | "gemma3" | "gemma3_text" | "gemma3n" | "gemma3n_text" => {
                Self::Default(Class::Gemma)
            }
            "glm" | "glm4" | "glm4_moe" | "glm4_moe_lite" | "granite" | "granitemoe"
            | "granitemoehybrid" | "granitemoeshared" | "ministral" | "ministral3" | "mistral"
            | "mistral3" | "mixtral" | "phi3" | "phi3_v" | "phimoe" => {
                Self::Always(Class::AsWritten)
            }
            "phi" | "starcoder2" => Self::Default(Class::Gpt2),
            "qwen2" => Self::Always(Class::Qwen2),
            "qwen2_vl" | "qwen2_5_vl" | "qwen3" | "qwen3_moe" | "qwen3_next" | "qwen3_vl"
            | "qwen3_vl_moe" => Self::Default(Class::Qwen2),
            _ => Self::Unknown,
        }
    }
}

impl<'a> Named<'a> {
    fn of(sidecars: &'a TokenizerSidecars) -> Option<Self> {
        let in_config = sidecars
            .config
            .get("tokenizer_class")
            .and_then(Value::as_str);
        let file = |name: Option<&'a str>, file| name.map(|name| Self { name, file });
        file(in_config, "tokenizer_config.json")
            .or_else(|| file(sidecars.model_class.as_deref(), "config.json"))
    }

    /// Its name without what told fast tokenizers from others.
    fn plain(self) -> &'a str {
        self.name.strip_suffix("Fast").unwrap_or(self.name)
    }

    fn class(self) -> Result<Class, Failure> {
        match self.plain() {
            "CodeLlamaTokenizer" => Ok(Class::CodeLlama),
            "CohereTokenizer" => Ok(Class::Cohere),
            "GemmaTokenizer" => Ok(Class::Gemma),
            "GPT2Tokenizer" => Ok(Class::Gpt2),
            "GPTNeoXTokenizer" => Ok(Class::GptNeoX),
            "LlamaTokenizer" => Ok(Class::Llama),
            "Qwen2Tokenizer" => Ok(Class::Qwen2),
            name if OTHER_CLASSES.contains(&name) => Err(self.refused()),
            _ => Ok(Class::AsWritten),
        }
    }

    fn refused(self) -> Failure {
        Failure::unusable(format!(
            "{} says that the tokenizer_class is {}, which makes something of its own of tokenizer.json, and which this \
             version of Hangar does not have. If tokenizer.json is right as it is, set the field to \
             \"PreTrainedTokenizerFast\".",
            self.file, self.name
        ))
    }

    /// Whether transformers has it.
    fn is_known(self) -> bool {
        let name = self.plain();
        GENERAL.contains(&name) || self.class() != Ok(Class::AsWritten)
    }
}

/// The class where the files come with code of their own, which transformers does not run unless it is told to: then it
/// takes the class of its own that they name, if there is one.
fn without_code(of_model: OfModel, named: Option<Named<'_>>) -> Result<Class, Failure> {
    match (of_model, named) {
        (OfModel::Unknown, Some(named))
            if named.is_known() && named.file == "tokenizer_config.json" =>
        {
            named.class()
        }
        (OfModel::Unknown, _) => Err(Failure::unusable(
            "tokenizer_config.json says in auto_map that the tokenizer needs code of its own, which Hangar does not run. \
             If tokenizer.json is right without it, take the field out.",
        )),
        (_, Some(named)) => named.class(),
        (OfModel::Always(class) | OfModel::Default(class), None) => Ok(class),
    }
}

/// Whether tokenizer_config.json names code for the tokenizer.
fn has_code(config: &Map<String, Value>) -> bool {
    match config.get("auto_map") {
        Some(Value::Array(_)) => true,
        Some(map) => map.get("AutoTokenizer").is_some_and(|code| !code.is_null()),
        None => false,
    }
}

/// Whether tokenizer.json says anywhere that it is of bytes.
fn is_byte_level(tokenizer: &Map<String, Value>) -> bool {
    const NAME: &str = "ByteLevel";
    fn says(value: &Value) -> bool {
        match value {
            Value::String(text) => text == NAME,
            Value::Array(values) => values.iter().any(says),
            Value::Object(fields) => fields.contains_key(NAME) || fields.values().any(says),
            _ => false,
        }
    }
    tokenizer.contains_key(NAME) || tokenizer.values().any(says)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(model_type: &str, config: Value) -> Result<Class, Failure> {
        let Value::Object(config) = config else {
            panic!("no fields: {config}");
        };
        let sidecars = TokenizerSidecars {
            config,
            model_type: Some(model_type.to_owned()),
            ..TokenizerSidecars::default()
        };
        Class::of(&Map::new(), &sidecars)
    }

    #[bounded::test]
    fn classes_that_are_not_made_here_are_refused_by_name() {
        for name in ["BertTokenizerFast", "ByT5Tokenizer", "T5Tokenizer"] {
            let error = of("llama", json!({"tokenizer_class": name})).expect_err("no such class");
            assert!(error.message.contains("tokenizer_config.json"), "{error}");
            assert!(error.message.contains(name), "{error}");
        }
    }

    #[bounded::test]
    fn a_class_is_not_looked_at_where_the_type_of_the_model_says_which_it_is() {
        for (model_type, class) in [
            ("mistral", Class::AsWritten),
            ("phi3", Class::AsWritten),
            ("qwen2", Class::Qwen2),
        ] {
            let named = json!({"tokenizer_class": "BertTokenizer"});
            assert_eq!(of(model_type, named), Ok(class), "{model_type}");
        }
    }

    #[bounded::test]
    fn code_of_its_own_is_refused_where_transformers_would_ask_for_it() {
        let code = json!({"AutoTokenizer": ["own.OwnTokenizer", null]});
        let named = |name| json!({"tokenizer_class": name, "auto_map": code});
        let error = of("llama", named("OwnTokenizer")).expect_err("code");
        assert!(error.message.contains("auto_map"), "{error}");
        assert_eq!(of("llama", named("GPT2Tokenizer")), Ok(Class::Gpt2));
        assert_eq!(
            of("llama", named("PreTrainedTokenizerFast")),
            Ok(Class::AsWritten)
        );
        assert_eq!(of("qwen3", named("OwnTokenizer")), Ok(Class::AsWritten));
    }
}
