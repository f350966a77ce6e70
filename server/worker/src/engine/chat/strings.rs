//! Methods of Python's `str`.

use minijinja::{
    Error, ErrorKind,
    value::{Value, from_args},
};

use super::value::list;

/// Longest text that a width makes.
const MAX_WIDTH: i64 = 1 << 20;

/// The method's answer; `None` if it is none of these.
pub(super) fn method(text: &str, name: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    let answer = match name {
        "strip" | "lstrip" | "rstrip" => strip(text, name, arguments),
        "split" | "rsplit" => split(text, name == "rsplit", arguments),
        "splitlines" => lines(text, arguments),
        "partition" | "rpartition" => partition(text, name == "rpartition", arguments),
        "find" | "index" => find(text, name, arguments, |text, sub| text.find(sub)),
        "rfind" | "rindex" => find(text, name, arguments, |text, sub| text.rfind(sub)),
        "count" => count(text, arguments),
        "removeprefix" | "removesuffix" => remove(text, name == "removeprefix", arguments),
        "ljust" | "rjust" | "center" | "zfill" => pad(text, name, arguments),
        "capitalize" | "title" | "casefold" | "swapcase" => changed(text, name, arguments),
        "isdigit" | "isdecimal" | "isnumeric" | "isalpha" | "isalnum" | "isspace" | "islower"
        | "isupper" => is(text, name, arguments),
        _ => return None,
    };
    Some(answer)
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_owned())
}

fn strip(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (set,): (Option<String>,) = from_args(arguments)?;
    let cut = |c: char| match &set {
        Some(set) => set.contains(c),
        None => is_space(c),
    };
    Ok(Value::from(match name {
        "strip" => text.trim_matches(cut),
        "lstrip" => text.trim_start_matches(cut),
        _ => text.trim_end_matches(cut),
    }))
}

/// White space as Python has it.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn split(text: &str, from_the_right: bool, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, most): (Option<String>, Option<i64>) = from_args(arguments)?;
    let most = most.and_then(|most| usize::try_from(most).ok());
    let pieces: Vec<&str> = match (&separator, most) {
        (Some(separator), _) if separator.is_empty() => return Err(invalid("empty separator")),
        (Some(separator), None) => text.split(separator.as_str()).collect(),
        (Some(separator), Some(most)) if from_the_right => {
            let mut pieces: Vec<&str> = text.rsplitn(most + 1, separator.as_str()).collect();
            pieces.reverse();
            pieces
        }
        (Some(separator), Some(most)) => text.splitn(most + 1, separator.as_str()).collect(),
        (None, None) => text.split(is_space).filter(|it| !it.is_empty()).collect(),
        (None, Some(most)) => words(text, most, from_the_right),
    };
    Ok(list(pieces.into_iter().map(Value::from).collect()))
}

/// Words at one end of a text, and the rest of it.
fn words(text: &str, most: usize, from_the_right: bool) -> Vec<&str> {
    let mut rest = text.trim_matches(is_space);
    let mut words = Vec::new();
    while !rest.is_empty() {
        let cut = match from_the_right {
            _ if words.len() == most => None,
            true => rest.rfind(is_space),
            false => rest.find(is_space),
        };
        let Some(at) = cut else {
            words.push(rest);
            break;
        };
        let behind = at + rest[at..].chars().next().map_or(1, char::len_utf8);
        if from_the_right {
            words.push(&rest[behind..]);
            rest = rest[..at].trim_end_matches(is_space);
        } else {
            words.push(&rest[..at]);
            rest = rest[behind..].trim_start_matches(is_space);
        }
    }
    if from_the_right {
        words.reverse();
    }
    words
}

fn lines(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (keep,): (Option<bool>,) = from_args(arguments)?;
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        ) || ('\u{1c}'..='\u{1e}').contains(&c)
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_end) {
        let length = match rest[at..].starts_with("\r\n") {
            true => 2,
            false => rest[at..].chars().next().map_or(1, char::len_utf8),
        };
        let end = if keep == Some(true) { at + length } else { at };
        lines.push(Value::from(&rest[..end]));
        rest = &rest[at + length..];
    }
    if !rest.is_empty() {
        lines.push(Value::from(rest));
    }
    Ok(list(lines))
}

fn partition(text: &str, from_the_right: bool, arguments: &[Value]) -> Result<Value, Error> {
    let (separator,): (String,) = from_args(arguments)?;
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let parts = match from_the_right {
        true => text.rsplit_once(separator.as_str()),
        false => text.split_once(separator.as_str()),
    };
    let parts = match (parts, from_the_right) {
        (Some((before, after)), _) => [before, separator.as_str(), after],
        (None, false) => [text, "", ""],
        (None, true) => ["", "", text],
    };
    Ok(list(parts.map(Value::from).to_vec()))
}

/// Where a text is in another, in characters.
fn find(
    text: &str,
    name: &str,
    arguments: &[Value],
    search: impl Fn(&str, &str) -> Option<usize>,
) -> Result<Value, Error> {
    let (sub, start, end): (String, Option<i64>, Option<i64>) = from_args(arguments)?;
    let length = text.chars().count();
    let place = |given: i64| match usize::try_from(given) {
        Ok(at) => at.min(length),
        Err(_) => length.saturating_sub(usize::try_from(given.unsigned_abs()).unwrap_or(length)),
    };
    let start = start.map_or(0, place);
    let end = end.map_or(length, place).max(start);
    let byte = |at: usize| {
        text.char_indices()
            .nth(at)
            .map_or(text.len(), |(byte, _)| byte)
    };
    let part = &text[byte(start)..byte(end)];
    match search(part, &sub) {
        Some(at) => Ok(Value::from(start + part[..at].chars().count())),
        None if name.ends_with("index") => Err(invalid("substring not found")),
        None => Ok(Value::from(-1)),
    }
}

fn count(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (sub,): (String,) = from_args(arguments)?;
    Ok(Value::from(text.matches(sub.as_str()).count()))
}

fn remove(text: &str, prefix: bool, arguments: &[Value]) -> Result<Value, Error> {
    let (end,): (String,) = from_args(arguments)?;
    let rest = match prefix {
        true => text.strip_prefix(end.as_str()),
        false => text.strip_suffix(end.as_str()),
    };
    Ok(Value::from(rest.unwrap_or(text)))
}

fn pad(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<char>) = from_args(arguments)?;
    if width > MAX_WIDTH {
        return Err(invalid("the width is too large"));
    }
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    let fill = |count: usize| fill.unwrap_or(' ').to_string().repeat(count);
    Ok(Value::from(match name {
        "ljust" => format!("{text}{}", fill(missing)),
        "rjust" => format!("{}{text}", fill(missing)),
        "zfill" => {
            let digits = text.trim_start_matches(['+', '-']);
            let sign = &text[..text.len() - digits.len()];
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        _ => {
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fill(left), fill(missing - left))
        }
    }))
}

fn changed(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let () = from_args(arguments)?;
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        let upper = match name {
            "casefold" => false,
            "swapcase" => c.is_lowercase(),
            _ => !inside,
        };
        if upper {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        inside = name == "capitalize" || c.is_alphabetic();
    }
    Ok(Value::from(out))
}

fn is(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let () = from_args(arguments)?;
    let all = |check: fn(char) -> bool| !text.is_empty() && text.chars().all(check);
    Ok(Value::from(match name {
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(is_space),
        "islower" => text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase),
        "isupper" => text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase),
        _ => all(char::is_numeric),
    }))
}
