//! The added tokens of a tokenizer, as transformers 5 has them once it has read all files: those of tokenizer.json,
//! changed and completed by tokenizer_config.json, and by the files that older versions wrote.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{class::Class, sidecars::TokenizerSidecars};

/// Fields of tokenizer_config.json that name one special token, in the order in which those are added.
const NAMED: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// An added token.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

impl Token {
    /// A special one that is only known by its text.
    fn special(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }

    fn read(fields: &Value) -> Option<Self> {
        let flag = |name: &str| fields.get(name).and_then(Value::as_bool);
        let is = |name: &str| flag(name).unwrap_or(false);
        Some(Self {
            content: fields.get("content")?.as_str()?.to_owned(),
            single_word: is("single_word"),
            lstrip: is("lstrip"),
            rstrip: is("rstrip"),
            normalized: flag("normalized").unwrap_or(!is("special")),
            special: is("special"),
        })
    }

    /// A token that is given by its text or by its fields.
    fn given(value: &Value) -> Option<Self> {
        match value {
            Value::String(content) => Some(Self::special(content)),
            fields => Self::read(fields),
        }
    }

    fn entry(&self, id: u64) -> Value {
        json!({
            "id": id,
            "content": self.content,
            "single_word": self.single_word,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": self.normalized,
            "special": self.special,
        })
    }
}

/// Completes the special tokens by those that the class has where no file says which they are.
pub(super) fn complete_special(class: Class, sidecars: &mut TokenizerSidecars) {
    let in_files = |name: &str| {
        let config = sidecars.config.get(name);
        config.or_else(|| sidecars.special.get(name).filter(|_| !sidecars.listed()))
    };
    let mut tokens = Map::new();
    for (name, text) in class.special() {
        let token = in_files(name).cloned();
        tokens.insert((*name).to_owned(), token.unwrap_or_else(|| (*text).into()));
    }
    // Those of the class come first.
    for (name, value) in std::mem::take(&mut sidecars.config) {
        tokens.insert(name, value);
    }
    sidecars.config = tokens;
}

/// Changes and completes the added tokens of a tokenizer.json with these fields. A class that makes its own tokenizer
/// begins without any.
pub(super) fn complete(
    class: Class,
    tokenizer: &mut Map<String, Value>,
    sidecars: &TokenizerSidecars,
) {
    let written = added_in(tokenizer);
    let mut there = match class {
        Class::AsWritten => written.clone(),
        _ => Vec::new(),
    };
    let vocabulary = tokenizer
        .get("model")
        .and_then(|model| model.get("vocab"))
        .and_then(Value::as_object);
    let to_add = to_add(&there, &written, sidecars);
    if class == Class::AsWritten && to_add.is_empty() {
        return;
    }
    for mut token in to_add {
        if let Some((_, old)) = there
            .iter_mut()
            .find(|(_, old)| old.content == token.content)
        {
            // Once special, always special.
            token.special |= old.special;
            *old = token;
            continue;
        }
        let known = vocabulary.and_then(|vocabulary| vocabulary.get(&token.content)?.as_u64());
        let size = vocabulary.map_or(0, |vocabulary| vocabulary.len() as u64);
        let next = there.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        there.push((known.unwrap_or(next.max(size)), token));
    }
    match class {
        Class::Qwen2 => plain(&mut there, sidecars),
        Class::Cohere => specialize(&mut there, sidecars),
        _ => {}
    }
    let entries: Vec<Value> = there.iter().map(|(id, token)| token.entry(*id)).collect();
    tokenizer.insert("added_tokens".into(), entries.into());
}

/// Makes special tokens such as are known by their texts only.
fn plain(there: &mut [(u64, Token)], sidecars: &TokenizerSidecars) {
    let listed = sidecars.listed();
    let named = named(sidecars, listed).into_iter().map(|(_, token)| token);
    let special: Vec<Token> = named.chain(extras(sidecars, listed)).collect();
    for (_, token) in there {
        if special.iter().any(|it| it.content == token.content) {
            *token = Token::special(&token.content);
        }
    }
}

/// Makes tokens special that are among the special ones without a name.
fn specialize(there: &mut [(u64, Token)], sidecars: &TokenizerSidecars) {
    let extras = extras(sidecars, sidecars.listed());
    for (_, token) in there {
        if let Some(extra) = extras.iter().find(|it| it.content == token.content) {
            *token = Token {
                special: true,
                ..extra.clone()
            };
        }
    }
}

/// Text of the special token of this name.
pub(super) fn content(sidecars: &TokenizerSidecars, name: &str) -> Option<String> {
    let mut named = named(sidecars, sidecars.listed()).into_iter();
    let (_, token) = named.find(|(other, _)| other == name)?;
    Some(token.content)
}

/// Id of a token of a tokenizer.json with these fields.
pub(super) fn id(tokenizer: &Map<String, Value>, content: &str) -> Option<u64> {
    let mut added = added_in(tokenizer).into_iter();
    let added = added.find(|(_, token)| token.content == content);
    let vocabulary = tokenizer.get("model").and_then(|model| model.get("vocab"));
    let known = vocabulary.and_then(|vocabulary| vocabulary.get(content)?.as_u64());
    added.map(|(id, _)| id).or(known)
}

/// Number of tokens of a tokenizer.json with these fields.
pub(super) fn size(tokenizer: &Map<String, Value>) -> usize {
    let vocabulary = tokenizer.get("model").and_then(|model| model.get("vocab"));
    let vocabulary = vocabulary.and_then(Value::as_object);
    let is_new = |token: &Token| vocabulary.is_none_or(|it| !it.contains_key(&token.content));
    let added = added_in(tokenizer);
    let new = added.iter().filter(|(_, token)| is_new(token)).count();
    vocabulary.map_or(0, Map::len) + new
}

/// The token that ends a text, if none of the files has it. The reference gives it a row that the model has not.
pub(super) fn unknown_end(
    tokenizer: &Map<String, Value>,
    sidecars: &TokenizerSidecars,
) -> Option<String> {
    let named = named(sidecars, sidecars.listed());
    let (_, end) = named.into_iter().find(|(name, _)| name == "eos_token")?;
    let vocabulary = tokenizer.get("model").and_then(|model| model.get("vocab"));
    let is = |fields: &Value| fields.get("content").and_then(Value::as_str) == Some(&end.content);
    let known = added_in(tokenizer)
        .iter()
        .any(|(_, token)| token.content == end.content)
        || vocabulary.is_some_and(|vocabulary| vocabulary.get(&end.content).is_some())
        || sidecars.list().is_some_and(|all| all.values().any(is))
        || sidecars.added.contains_key(&end.content);
    (!known).then_some(end.content)
}

fn added_in(tokenizer: &Map<String, Value>) -> Vec<(u64, Token)> {
    let added = tokenizer.get("added_tokens").and_then(Value::as_array);
    let entries = added.into_iter().flatten();
    entries
        .filter_map(|entry| Some((entry.get("id")?.as_u64()?, Token::read(entry)?)))
        .collect()
}

/// Tokens that are to be added to those that are there, in order; or that take the place of one with the same text.
/// `written`: those of tokenizer.json.
fn to_add(
    there: &[(u64, Token)],
    written: &[(u64, Token)],
    sidecars: &TokenizerSidecars,
) -> Vec<Token> {
    let list = sidecars.list();
    // A field that is no list does not count here, though it does elsewhere.
    let named = named(sidecars, list.is_some());
    let extras = extras(sidecars, list.is_some());
    let by_id: BTreeMap<u64, Token> = match list {
        Some(listed) => {
            let token =
                |(id, fields): (&String, &Value)| Some((id.parse().ok()?, Token::read(fields)?));
            listed.iter().filter_map(token).collect()
        }
        None => in_old_file(sidecars, &named)
            .chain(written.iter().cloned())
            .collect(),
    };
    let mut all: Vec<Token> = by_id.into_values().collect();
    all.retain(|token| !there.iter().any(|(_, old)| old == token));
    for token in named.iter().map(|(_, token)| token).chain(&extras) {
        let is = |other: &Token| other.content == token.content;
        if !there.iter().any(|(_, old)| is(old)) && !all.iter().any(is) {
            all.push(token.clone());
        }
    }
    for token in &mut all {
        token.special |= named.iter().any(|(_, it)| it.content == token.content);
    }
    all
}

/// The tokens of added_tokens.json, of which those are special that tokenizer_config.json says are.
fn in_old_file(
    sidecars: &TokenizerSidecars,
    named: &[(String, Token)],
) -> impl Iterator<Item = (u64, Token)> {
    let named = named
        .iter()
        .filter(|(name, _)| NAMED.contains(&name.as_str()));
    let extras = extras_in(&sidecars.config);
    let extras = extras.iter().filter_map(Token::given);
    let special: Vec<String> = named
        .map(|(_, token)| token.clone())
        .chain(extras)
        .map(|token| token.content)
        .collect();
    sidecars.added.iter().filter_map(move |(text, id)| {
        let special = special.contains(text);
        let token = Token {
            normalized: !special,
            special,
            ..Token::special(text)
        };
        Some((id.as_u64()?, token))
    })
}

/// The special tokens that have names, as transformers has them: every field whose name ends in _token, and those of
/// extra_special_tokens if they have names.
fn named(sidecars: &TokenizerSidecars, listed: bool) -> Vec<(String, Token)> {
    let mut fields = sidecars.config.clone();
    if !listed {
        fields.extend(sidecars.special.clone());
    }
    fields.retain(|name, _| name.ends_with("_token"));
    if let Some(Value::Object(extra)) = sidecars.config.get("extra_special_tokens") {
        fields.extend(extra.clone());
    }
    let named = fields.iter();
    let named = named.filter_map(|(name, value)| Some((name.clone(), Token::given(value)?)));
    let mut named: Vec<_> = named.collect();
    let place = |name: &str| NAMED.iter().position(|other| *other == name);
    named.sort_by_key(|(name, _)| place(name).unwrap_or(NAMED.len()));
    named
}

/// The special tokens without a name.
fn extras(sidecars: &TokenizerSidecars, listed: bool) -> Vec<Token> {
    let mut all = extras_in(&sidecars.config);
    if !listed {
        all.extend(extras_in(&sidecars.special));
    }
    all.iter().filter_map(Token::given).collect()
}

fn extras_in(fields: &Map<String, Value>) -> Vec<Value> {
    let lists = ["extra_special_tokens", "additional_special_tokens"].into_iter();
    let mut lists = lists.filter_map(|name| fields.get(name)?.as_array().cloned());
    lists.find(|list| !list.is_empty()).unwrap_or_default()
}
