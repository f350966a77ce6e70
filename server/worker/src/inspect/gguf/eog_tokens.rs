//! Which tokens of a GGUF file end an answer, and which are control tokens whatever their type says: as llama.cpp finds
//! them, by keys of the file and by texts.

/// Texts of tokens that end an answer wherever they are in a vocabulary.
const EOG_TEXTS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    END,
    RETURN,
    CALLS[0],
    FLUSH,
    CALLS[1],
    "<end_of_turn>",
    "<|endoftext|>",
    CLOSE,
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    TOOL_RESPONSE,
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Ends of turns. Where a vocabulary has the others, the first one ends messages in the midst of an answer only.
const END: &str = "<|end|>";
const RETURN: &str = "<|return|>";
const CALLS: [&str; 2] = ["<|call|>", "<|calls|>"];
const FLUSH: &str = "<|flush|>";

/// The first one ends no answer where a vocabulary has one of the others.
const CLOSE: &str = "</s>";
const TOOL_RESPONSE: &str = "<|tool_response>";
const PLAMO_END: &str = "<|plamo:eos|>";

/// Tokens for filling in the middle that end an answer, too: the key that names one, and else the texts that it may have.
const FIM_EOG: [(&str, &[&str]); 3] = [
    (
        "fim_pad_token_id",
        &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    ),
    (
        "fim_rep_token_id",
        &[
            "<|fim_repo|>",
            "<|repo_name|>",
            "<fim-repo>",
            "<REPO>",
            "<reponame>",
        ],
    ),
    ("fim_sep_token_id", &["<|file_sep|>"]),
];

/// Other control tokens for filling in the middle.
const FIM_TOKENS: [&str; 24] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];

/// Tokens of Harmony that are text whatever their type says.
const HARMONY: [&str; 4] = ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// What a token is by its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenTypeByText {
    Control,
    UserDefined,
    /// What the file says.
    Typed,
}

/// Tokens that end an answer, and what others are by their texts.
#[derive(Debug, Default)]
pub(super) struct EogTokens {
    /// Tokens that end an answer.
    pub(super) ids: Vec<u32>,
    /// The end of a turn that here only ends messages, in the midst of an answer.
    message_end_only: Option<u32>,
    /// A token that by its text is a control token elsewhere, and here a plain one.
    plain: Option<u32>,
}

impl EogTokens {
    /// Those among these tokens; `key` gives the token that a key of the file names.
    pub(super) fn find(texts: &[String], key: impl Fn(&str) -> Option<u32>) -> Self {
        let id = |id: usize| u32::try_from(id).ok();
        let with_text = |wanted: &[&str]| {
            let is = |text: &String| wanted.contains(&text.as_str());
            texts.iter().position(is).and_then(id)
        };
        let named = ["eos_token_id", "eot_token_id", "eom_token_id"];
        let named = named.iter().filter_map(|name| key(name));
        let fim = FIM_EOG.iter();
        let fim = fim.filter_map(|(name, known)| key(name).or_else(|| with_text(known)));
        let known = texts.iter().enumerate();
        let known = known.filter(|(_, text)| EOG_TEXTS.contains(&text.as_str()));
        let mut ids = Vec::new();
        for found in named.chain(fim).chain(known.filter_map(|(at, _)| id(at))) {
            if !ids.contains(&found) {
                ids.push(found);
            }
        }
        let there = |wanted: &[&str]| with_text(wanted).filter(|id| ids.contains(id));
        let calls = there(&CALLS).is_some();
        let message_end_only = there(&[END])
            .filter(|_| calls && (there(&[RETURN]).is_some() || there(&[FLUSH]).is_some()));
        let plain = there(&[CLOSE]).filter(|_| there(&[TOOL_RESPONSE, PLAMO_END]).is_some());
        ids.retain(|id| Some(*id) != message_end_only && Some(*id) != plain);
        Self {
            ids,
            message_end_only,
            plain,
        }
    }

    /// What a token with this text is.
    pub(super) fn kind(&self, id: u32, text: &str) -> TokenTypeByText {
        let is = |other: Option<u32>| other == Some(id);
        if is(self.message_end_only) || HARMONY.contains(&text) {
            TokenTypeByText::UserDefined
        } else if is(self.plain) {
            TokenTypeByText::Typed
        } else if EOG_TEXTS.contains(&text)
            || FIM_TOKENS.contains(&text)
            || FIM_EOG.iter().any(|(_, known)| known.contains(&text))
        {
            TokenTypeByText::Control
        } else {
            TokenTypeByText::Typed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eog_texts(texts: &[&str], keys: &[(&str, u32)]) -> Vec<String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let key = |name: &str| keys.iter().find(|(key, _)| *key == name).map(|it| it.1);
        let eog = EogTokens::find(&texts, key);
        let text = |id: &u32| texts[*id as usize].clone();
        eog.ids.iter().map(text).collect()
    }

    #[bounded::test]
    fn ends_are_those_that_keys_name_and_those_that_texts_tell() {
        let texts = ["a", "<|eot_id|>", "b", "<|fim_pad|>", "</s>"];
        let found = eog_texts(&texts, &[("eos_token_id", 0)]);
        assert_eq!(found, ["a", "<|fim_pad|>", "<|eot_id|>", "</s>"]);
        let keys = [("eos_token_id", 0), ("fim_pad_token_id", 2)];
        assert_eq!(eog_texts(&texts, &keys), ["a", "b", "<|eot_id|>", "</s>"]);
    }

    #[bounded::test]
    fn the_end_of_a_message_is_none_where_others_end_an_answer() {
        let harmony = ["<|end|>", "<|return|>", "<|call|>"];
        assert_eq!(eog_texts(&harmony, &[]), ["<|return|>", "<|call|>"]);
        assert_eq!(eog_texts(&harmony[..2], &[]), ["<|end|>", "<|return|>"]);
        let solar = ["<|end|>", "<|flush|>", "<|calls|>"];
        assert_eq!(eog_texts(&solar, &[]), ["<|flush|>", "<|calls|>"]);
        let gemma = ["</s>", "<eos>", "<|tool_response>"];
        assert_eq!(eog_texts(&gemma, &[]), ["<eos>", "<|tool_response>"]);
    }

    #[bounded::test]
    fn a_tokens_text_says_whether_it_is_a_control_token() {
        let texts = [
            "<|end|>",
            "<|return|>",
            "<|call|>",
            "<|channel|>",
            "<PRE>",
            "a",
        ];
        let texts: Vec<String> = texts.map(str::to_owned).into();
        let eog = EogTokens::find(&texts, |_| None);
        let ids = 0..u32::try_from(texts.len()).unwrap_or(0);
        let kinds: Vec<TokenTypeByText> = ids
            .zip(&texts)
            .map(|(id, text)| eog.kind(id, text))
            .collect();
        let (control, user) = (TokenTypeByText::Control, TokenTypeByText::UserDefined);
        let expected = [
            user,
            control,
            control,
            user,
            control,
            TokenTypeByText::Typed,
        ];
        assert_eq!(kinds, expected);
    }
}
