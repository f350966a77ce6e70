//! The tokenizer in a GGUF file, as a tokenizer.json.
//!
//! The reference is llama.cpp: how a text is cut before its bytes are put together depends on
//! `tokenizer.ggml.pre`, and the types of tokens say which are of a text and which stand for something else.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::{
    eog_tokens::{EogTokens, TokenTypeByText},
    header::{Header, SCORES, Value},
    pre_tokenizer::{self, PreTokenizer},
};
use crate::{
    failure::Failure,
    inspect::{
        Templates, TokenDefaults,
        text_settings::TextSettings,
        tokenizer::{byte_level, joined, split, template_processing},
    },
};

/// Types of tokens.
const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// Tokens of Phi-3 that take no white space behind them, as its others do.
const PHI3_PLAIN: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// What the header says of tokens.
struct HeaderTokens<'a> {
    header: &'a Header,
    texts: &'a [String],
    types: &'a [u64],
    eog: EogTokens,
}

/// Reads the tokenizer. `given`: another tokenizer takes its place, and only what goes with it is read.
pub(super) fn text_settings(
    header: &Header,
    given: Option<Vec<u8>>,
) -> Result<TextSettings, Failure> {
    let texts: &[String] = match header.values.get("tokenizer.ggml.tokens") {
        Some(Value::Texts(texts)) => texts,
        _ => &[],
    };
    let types: &[u64] = match header.values.get("tokenizer.ggml.token_type") {
        Some(Value::Numbers(types)) if types.len() >= texts.len() => types,
        _ => &[],
    };
    let tokens = HeaderTokens {
        header,
        texts,
        types,
        eog: EogTokens::find(texts, |name| meant(header, name, texts.len())),
    };
    let mut special = Map::new();
    for (name, key) in [
        ("bos_token", "bos_token_id"),
        ("eos_token", "eos_token_id"),
        ("unk_token", "unknown_token_id"),
    ] {
        if let Some(text) = tokens.special(key) {
            special.insert(name.into(), text.into());
        }
    }
    let tokenizer = match given {
        Some(given) => given,
        None => serde_json::to_vec(&tokens.tokenizer()?)
            .map_err(|e| Failure::internal(format!("the tokenizer cannot be written: {e}")))?,
    };
    Ok(TextSettings {
        tokenizer,
        special,
        templates: templates(header),
        token_defaults: TokenDefaults {
            suppress_tokens: suppressed(header, texts.len()),
            ..TokenDefaults::default()
        },
        eos_token_ids: tokens.eog.ids,
        add_bos_to_chats: true,
        ..TextSettings::default()
    })
}

impl HeaderTokens<'_> {
    fn special(&self, name: &str) -> Option<&str> {
        let id = self.id(name)?;
        let text = self.texts.get(usize::try_from(id).ok()?)?;
        Some(text)
    }

    fn id(&self, name: &str) -> Option<u32> {
        meant(self.header, name, self.texts.len())
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        match self.header.values.get(&format!("tokenizer.ggml.{name}")) {
            Some(Value::Flag(flag)) => *flag,
            _ => default,
        }
    }

    fn kind(&self, id: usize) -> u64 {
        let text = self.texts.get(id).map_or("", String::as_str);
        match self.eog.kind(u32::try_from(id).unwrap_or(u32::MAX), text) {
            TokenTypeByText::Control => CONTROL,
            TokenTypeByText::UserDefined => USER_DEFINED,
            TokenTypeByText::Typed => self.types.get(id).copied().unwrap_or(NORMAL),
        }
    }

    /// The whole as tokenizer.json.
    fn tokenizer(&self) -> Result<Json, Failure> {
        let bytes = self.header.text("tokenizer.ggml.model") == Some("gpt2");
        let pre = match (bytes, self.header.text("tokenizer.ggml.pre")) {
            (false, _) => None,
            (true, name) => Some(pre_tokenizer::find(name.unwrap_or("default"))?),
        };
        let mut vocabulary: Map<String, Json> = Map::new();
        for (id, text) in self.texts.iter().enumerate() {
            if vocabulary.insert(self.text(id, text), id.into()).is_some() {
                return Err(Failure::unusable(format!(
                    "The file's tokenizer has the token {text:?} twice. Convert the model to GGUF anew."
                )));
            }
        }
        let merges = match bytes {
            true => self.merges(),
            false => self.merges_by_score()?,
        };
        let add_bos = pre.is_none_or(|pre| pre.add_bos);
        let unknown = (!bytes).then(|| self.special("unknown_token_id")).flatten();
        let (normalizer, pre_tokenizer, decoder) = match pre {
            Some(pre) => (Json::Null, split_patterns(pre), byte_level(false, false)),
            None => {
                let space = self.flag("add_space_prefix", true);
                (spaces(space), Json::Null, joined(space))
            }
        };
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": self.post_processor(add_bos),
            "decoder": decoder,
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": unknown,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": !bytes,
                "byte_fallback": !bytes,
                "ignore_merges": pre.is_some_and(|pre| pre.whole_words),
                "vocab": vocabulary,
                "merges": merges,
            },
        }))
    }

    /// A token's text; one that is empty has a name of its own.
    fn text(&self, id: usize, text: &str) -> String {
        match text {
            "" => format!("[EMPTY_{id}]"),
            text => text.to_owned(),
        }
    }

    /// Tokens that are found in a text before it is cut.
    fn added(&self) -> Vec<Json> {
        let added = self.texts.iter().enumerate().filter(|(id, text)| {
            !text.is_empty() && matches!(self.kind(*id), UNKNOWN | CONTROL | USER_DEFINED)
        });
        let name = self.header.text("general.name").unwrap_or_default();
        let name = name.to_lowercase();
        let strips = ["phi-3", "phi3"].iter().any(|part| name.contains(part));
        let entry = |(id, text): (usize, &String)| {
            json!({
                "id": id,
                "content": text,
                "single_word": false,
                "lstrip": false,
                "rstrip": strips && !PHI3_PLAIN.contains(&text.as_str()),
                "normalized": false,
                "special": self.kind(id) != USER_DEFINED,
            })
        };
        added.map(entry).collect()
    }

    /// What puts tokens around every text.
    fn post_processor(&self, add_bos: bool) -> Json {
        let token = |on: bool, name: &str| {
            let id = self.id(name).filter(|_| on)?;
            Some((self.special(name)?, id))
        };
        let before = token(self.flag("add_bos_token", add_bos), "bos_token_id");
        let after = token(self.flag("add_eos_token", false), "eos_token_id");
        if before.is_none() && after.is_none() {
            return Json::Null;
        }
        let mut special = Map::new();
        for (text, id) in before.iter().chain(&after) {
            let token = json!({"id": text, "ids": [id], "tokens": [text]});
            special.insert((*text).to_owned(), token);
        }
        template_processing(before.map(|it| it.0), after.map(|it| it.0), special)
    }

    fn merges(&self) -> Vec<Json> {
        let Some(Value::Texts(merges)) = self.header.values.get("tokenizer.ggml.merges") else {
            return Vec::new();
        };
        // A space may begin the first half, but for the first character.
        let pair = |merge: &String| {
            let from = merge.chars().next().map_or(0, char::len_utf8);
            let at = from + merge.get(from..)?.find(' ')?;
            Some(json!([&merge[..at], &merge[at + 1..]]))
        };
        merges.iter().filter_map(pair).collect()
    }

    /// The merges that lead to each token, best scores first.
    fn merges_by_score(&self) -> Result<Vec<Json>, Failure> {
        let scores: &[f64] = match self.header.values.get(SCORES) {
            Some(Value::Scores(scores)) => scores,
            _ => &[],
        };
        let plain = |id: &usize| matches!(self.kind(*id), NORMAL | USER_DEFINED);
        let ids: HashMap<&str, usize> = self
            .texts
            .iter()
            .enumerate()
            .filter(|(id, _)| plain(id))
            .map(|(id, text)| (text.as_str(), id))
            .collect();
        let mut merges = Vec::new();
        for (id, text) in self.texts.iter().enumerate().filter(|(id, _)| plain(id)) {
            let mut ways: Vec<(usize, usize, &str, &str)> = text
                .char_indices()
                .skip(1)
                .filter_map(|(at, _)| {
                    let (left, right) = text.split_at(at);
                    Some((*ids.get(left)?, *ids.get(right)?, left, right))
                })
                .collect();
            ways.sort_unstable();
            let score = scores.get(id).copied().unwrap_or(0.0);
            merges.extend(ways.into_iter().map(|way| (score, id, way.2, way.3)));
        }
        merges.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        // Users' tokens are cut out before anything is merged.
        let merged = merges.iter().filter(|merge| self.kind(merge.1) == NORMAL);
        let merged: Vec<(f64, usize)> = merged.map(|merge| (merge.0, merge.1)).collect();
        let alike = merged
            .windows(2)
            .find(|pair| pair[0].0.total_cmp(&pair[1].0).is_eq() && pair[0].1 != pair[1].1);
        if let Some([one, other]) = alike {
            return Err(self.alike(one.1, other.1));
        }
        let pairs = merges.into_iter();
        Ok(pairs
            .map(|(.., left, right)| json!([left, right]))
            .collect())
    }

    /// Why two tokens with the same score cannot be told apart.
    fn alike(&self, one: usize, other: usize) -> Failure {
        Failure::unusable(format!(
            "The file's tokenizer has the same score in {SCORES} for {:?} and {:?}, or none, of which llama.cpp puts \
             together first what comes first in a text. The engine (mistral.rs {}) does not. Convert the model to GGUF \
             anew from its tokenizer.model, give the spec a tokenizer (its tokenizer.json), or load the model's \
             safetensors.",
            self.texts[one],
            self.texts[other],
            crate::version::ENGINE_VERSION
        ))
    }
}

/// The token with this meaning of a vocabulary of that many: the one that the file names, or else that of the tokenizer's
/// kind.
fn meant(header: &Header, name: &str, tokens: usize) -> Option<u32> {
    let by_kind = match (header.text("tokenizer.ggml.model"), name) {
        (Some("llama"), "unknown_token_id") => Some(0),
        (Some("llama"), "bos_token_id") => Some(1),
        (Some("llama"), "eos_token_id") => Some(2),
        (Some("gpt2"), "bos_token_id" | "eos_token_id") => Some(11),
        _ => None,
    };
    let by_kind = by_kind.filter(|id: &u32| (*id as usize) < tokens);
    known(header, name, tokens).or(by_kind)
}

/// The token that a key of the file names, of a vocabulary of that many.
fn known(header: &Header, name: &str, tokens: usize) -> Option<u32> {
    let id = header.number(&format!("tokenizer.ggml.{name}"))?;
    u32::try_from(id).ok().filter(|id| (*id as usize) < tokens)
}

/// Tokens that are never chosen, of a vocabulary of that many.
fn suppressed(header: &Header, tokens: usize) -> Vec<u32> {
    let all = match header.values.get("tokenizer.ggml.suppress_tokens") {
        Some(Value::Numbers(all)) => all.as_slice(),
        _ => &[],
    };
    let ids = all.iter().filter_map(|id| u32::try_from(*id).ok());
    ids.filter(|id| (*id as usize) < tokens).collect()
}

/// The chat templates: the plain one, and one for conversations with tools if there is one.
fn templates(header: &Header) -> Templates {
    let template = |name: &str, key: &str| {
        let source = header.text(&format!("tokenizer.chat_template{key}"))?;
        Some(json!({"name": name, "template": source}))
    };
    let named = [template("default", ""), template("tool_use", ".tool_use")];
    Templates::listed(&named.into_iter().flatten().collect::<Vec<_>>())
}

/// Cuts a text, and writes its bytes as characters.
fn split_patterns(pre: &PreTokenizer) -> Json {
    let splits = pre.patterns().map(|pattern| split(&pattern));
    let splits = splits.chain([byte_level(false, false)]);
    json!({"type": "Sequence", "pretokenizers": splits.collect::<Vec<_>>()})
}

fn spaces(prefix: bool) -> Json {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = prefix.then(|| json!({"type": "Prepend", "prepend": "▁"}));
    let all: Vec<Json> = prepend.into_iter().chain([replace]).collect();
    json!({"type": "Sequence", "normalizers": all})
}

#[cfg(test)]
mod tests;
