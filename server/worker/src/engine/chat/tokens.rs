//! The tokens of a tag of a template.

use std::ops::Range;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateToken {
    pub(super) kind: TokenKind,
    /// Where it is in the source.
    pub(super) range: Range<usize>,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Name,
    Number,
    /// A text in quotation marks.
    Text,
    /// Everything else.
    Operator,
}

/// Operators of two characters.
const LONG: [&str; 6] = ["//", "**", "==", "!=", "<=", ">="];

/// The tokens of this part of `source`, without the marks for white space at the ends of a tag.
pub(super) fn tokens(source: &str, part: Range<usize>) -> Vec<TemplateToken> {
    let mut tokens = Vec::new();
    let mut at = part.start;
    let inside = &source[..part.end];
    while let Some(c) = inside[at..].chars().next() {
        let rest = &inside[at..];
        let (kind, length) = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '\'' | '"' => (TokenKind::Text, quoted(rest, c)),
            c if c.is_ascii_digit() => (TokenKind::Number, number(rest)),
            c if c.is_alphanumeric() || c == '_' => (TokenKind::Name, name(rest)),
            _ if LONG.iter().any(|long| rest.starts_with(long)) => (TokenKind::Operator, 2),
            c => (TokenKind::Operator, c.len_utf8()),
        };
        let range = at..at + length;
        at = range.end;
        let is_mark = kind == TokenKind::Operator && matches!(c, '-' | '+');
        if !(is_mark && (range.start == part.start || range.end == part.end)) {
            tokens.push(TemplateToken { kind, range });
        }
    }
    tokens
}

/// Length of a text, its quotation marks included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn name(rest: &str) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    rest.find(|c| !is_part(c)).unwrap_or(rest.len())
}

/// Length of a number. A dot belongs to it if a digit follows.
fn number(rest: &str) -> usize {
    let digits = name(rest);
    match rest[digits..].strip_prefix('.') {
        Some(after) if after.starts_with(|c: char| c.is_ascii_digit()) => digits + 1 + name(after),
        _ => digits,
    }
}
