//! The source of a template as the template library takes it: what chat templates have and it lacks is written in
//! another way of the same meaning, everything else stays as it is.
//!
//! - `{% generation %}`, which marks for training what the model has said, is a block with a scope of its own.
//! - `%` of texts is the filter `modulo`. Between numbers the library's own operator does.
//! - What a loop goes through passes the filter `iterated`, which refuses what Python cannot iterate.
//! - Texts that are added to one that is safe, which Jinja escapes then, raise an error.

use std::ops::Range;

use super::tokens::{TemplateToken, TokenKind, tokens};

/// Operators that bind as closely as `%`: what stands behind one of them is no operand of its own.
const AS_CLOSE: [&str; 5] = ["*", "/", "//", "%", "**"];

/// Statements that hold expressions and are none.
const BLOCKS: [&str; 6] = ["if", "elif", "for", "macro", "call", "with"];

/// Words behind which a bracket does not belong to what is before it.
const KEYWORDS: [&str; 9] = ["and", "or", "not", "in", "is", "if", "elif", "else", "for"];

/// Filters that make a text safe: what is added to it is escaped for HTML.
const SAFE: [&str; 4] = ["safe", "escape", "e", "forceescape"];

/// What is raised in place of such a text.
const UNSAFE: &str = r#" raise_exception("a text is added to one that is marked as safe, which this server cannot do") "#;

/// A piece of the source, and what takes its place.
type Edit = (Range<usize>, String);

/// `source` as the library takes it.
pub(super) fn rewritten(source: &str) -> String {
    // As Jinja has it.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while let Some(tag) = next_tag(&source, at) {
        let tokens = tokens(&source, tag.clone());
        let mut done = at;
        for (range, text) in edits(&source, &tokens) {
            out.push_str(&source[done..range.start]);
            out.push_str(&text);
            done = range.end;
        }
        out.push_str(&source[done..tag.end]);
        at = tag.end;
        let is_block = source[..tag.start].ends_with("{%");
        if is_block
            && tokens
                .first()
                .is_some_and(|it| &source[it.range.clone()] == "raw")
        {
            let end = source[at..]
                .find("endraw")
                .map_or(source.len(), |end| at + end);
            out.push_str(&source[at..end]);
            at = end;
        }
    }
    out.push_str(&source[at..]);
    out
}

/// The inside of the next tag that holds an expression or a statement.
fn next_tag(source: &str, from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        at += source[at..].find('{')?;
        let open = source.get(at..at + 2);
        let close = match open {
            Some("{{") => "}}",
            Some("{%") => "%}",
            Some("{#") => {
                at += source[at..].find("#}")?;
                continue;
            }
            _ => {
                at += 1;
                continue;
            }
        };
        let start = at + 2;
        return Some(start..end_of_tag(source, start, close));
    }
}

/// Where a tag ends: at its mark, unless that is in a text.
fn end_of_tag(source: &str, start: usize, close: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let mut depth = 0_usize;
    for (at, c) in source[start..].char_indices() {
        let at = start + at;
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            // Two braces may close two mappings.
            (None, '{') => depth += 1,
            (None, '}') if depth > 0 => depth -= 1,
            (None, _) if source[at..].starts_with(close) => return at,
            _ => {}
        }
    }
    source.len()
}

/// What is to be changed in a tag, in order.
fn edits(source: &str, tokens: &[TemplateToken]) -> Vec<Edit> {
    let word = |token: &TemplateToken| source[token.range.clone()].to_owned();
    if let [token] = tokens {
        let replaced = match word(token).as_str() {
            "generation" => Some("with"),
            "endgeneration" => Some("endwith"),
            _ => None,
        };
        return replaced
            .map(|text| (token.range.clone(), text.to_owned()))
            .into_iter()
            .collect();
    }
    let tag = TemplateTag { source, tokens };
    if let Some(edit) = tag.escaping() {
        return vec![edit];
    }
    let mut edits: Vec<Edit> = (0..tokens.len())
        .filter_map(|at| tag.modulo(at))
        .flatten()
        .chain(tag.iterated().into_iter().flatten())
        .collect();
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    edits
}

/// The inside of a tag.
struct TemplateTag<'a> {
    source: &'a str,
    tokens: &'a [TemplateToken],
}

impl TemplateTag<'_> {
    fn word(&self, at: usize) -> &str {
        let token = self.tokens.get(at);
        token.map_or("", |token| &self.source[token.range.clone()])
    }

    fn kind(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// Whether something ends here that a bracket or an operator may follow.
    fn ends_operand(&self, at: usize) -> bool {
        match self.kind(at) {
            Some(TokenKind::Name) => !KEYWORDS.contains(&self.word(at)),
            Some(TokenKind::Text | TokenKind::Number) => true,
            _ => matches!(self.word(at), ")" | "]" | "}"),
        }
    }

    /// What takes the place of an expression that adds something to a safe text.
    fn escaping(&self) -> Option<Edit> {
        let words = || (0..self.tokens.len()).map(|at| self.word(at));
        let makes_safe = |at| self.word(at) == "|" && SAFE.contains(&self.word(at + 1));
        if !words().any(|word| word == "+") || !(0..self.tokens.len()).any(makes_safe) {
            return None;
        }
        let first = match self.word(0) {
            "set" => words().position(|word| word == "=")? + 1,
            word if BLOCKS.contains(&word) => return None,
            _ => 0,
        };
        let start = self.tokens.get(first)?.range.start;
        Some((start..self.tokens.last()?.range.end, UNSAFE.into()))
    }

    /// What a loop goes through, in the filter.
    fn iterated(&self) -> Option<[Edit; 2]> {
        if self.word(0) != "for" {
            return None;
        }
        let first = self.outside(1, &["in"])? + 1;
        let behind = self.outside(first, &["if", "recursive"]);
        let last = behind.unwrap_or(self.tokens.len()).checked_sub(1)?;
        let (start, end) = (
            self.tokens.get(first)?.range.start,
            self.tokens.get(last)?.range.end,
        );
        let before = (start..start, "(".to_owned());
        Some([before, (end..end, ")|iterated".to_owned())])
    }

    /// The first of these words from a place on that is in no brackets.
    fn outside(&self, from: usize, words: &[&str]) -> Option<usize> {
        let mut at = from;
        while at < self.tokens.len() {
            match self.word(at) {
                word if words.contains(&word) => return Some(at),
                "(" | "[" | "{" => at = self.closing(at)?,
                _ => {}
            }
            at += 1;
        }
        None
    }

    /// The operator at this place as a filter, if texts may be its operands.
    fn modulo(&self, at: usize) -> Option<[Edit; 2]> {
        if self.kind(at) != Some(TokenKind::Operator) || self.word(at) != "%" || at == 0 {
            return None;
        }
        let left = self.operand_before(at - 1)?;
        if self.kind(left) != Some(TokenKind::Text) && self.kind(at + 1) == Some(TokenKind::Number)
        {
            return None;
        }
        if left > 0 {
            let before = self.word(left - 1);
            let is_sign = matches!(before, "-" | "+") && !(left > 1 && self.ends_operand(left - 2));
            if is_sign || AS_CLOSE.contains(&before) {
                return None;
            }
        }
        let right = self.operand_behind(at + 1)?;
        let operator = self.tokens.get(at)?.range.clone();
        let end = self.tokens.get(right)?.range.end;
        let is_tuple = self.word(at + 1) == "(" && self.closing(at + 1) == Some(right);
        if is_tuple && self.has_comma(at + 1, right) {
            let open = self.tokens.get(at + 1)?.range.end;
            return Some([
                (operator.start..open, "|modulo(".into()),
                (end..end, String::new()),
            ]);
        }
        Some([(operator, "|modulo(".into()), (end..end, ")".into())])
    }

    /// Where the operand begins that ends here, with its calls, places, attributes and filters.
    fn operand_before(&self, mut at: usize) -> Option<usize> {
        loop {
            if !self.ends_operand(at) {
                return None;
            }
            let first = match self.word(at) {
                ")" | "]" | "}" => self.opening(at)?,
                _ => at,
            };
            at = match first.checked_sub(1) {
                Some(before) if first != at && self.ends_operand(before) => before,
                Some(before) if matches!(self.word(before), "." | "|") => before.checked_sub(1)?,
                _ => return Some(first),
            };
        }
    }

    /// Where the operand ends that begins here.
    fn operand_behind(&self, start: usize) -> Option<usize> {
        let mut at = start;
        while matches!(self.word(at), "-" | "+") {
            at += 1;
        }
        at = match self.word(at) {
            "(" | "[" | "{" => self.closing(at)?,
            _ if self.ends_operand(at) => at,
            _ => return None,
        };
        loop {
            at = match self.word(at + 1) {
                "." | "|" if self.kind(at + 2).is_some() => at + 2,
                "(" | "[" => self.closing(at + 1)?,
                _ => return Some(at),
            };
        }
    }

    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in open..self.tokens.len() {
            match self.word(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    fn opening(&self, close: usize) -> Option<usize> {
        (0..close).rev().find(|open| {
            matches!(self.word(*open), "(" | "[" | "{") && self.closing(*open) == Some(close)
        })
    }

    /// Whether there is a comma between these brackets and not in others.
    fn has_comma(&self, open: usize, close: usize) -> bool {
        let mut at = open + 1;
        while at < close {
            match self.word(at) {
                "," => return true,
                "(" | "[" | "{" => at = self.closing(at).unwrap_or(close),
                _ => {}
            }
            at += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn jinja_that_the_library_has_is_not_rewritten() {
        for source in [
            "{% if a % 2 == 0 %}{{ '%s' }}{% endif %}",
            "{{ {'a': {'b': 1}} }} 5 % of {x}",
            "{# {% generation %} #}{% raw %}{{ 'a' % b }}{% endraw %}",
            "{{ -a % b }}{{ a * b % c }}",
            "{{ a",
            "{% if %}{",
        ] {
            assert_eq!(rewritten(source), source);
        }
    }

    #[bounded::test]
    fn adding_to_a_text_marked_safe_is_an_error() {
        for source in ["{{- x|safe + y -}}", "{% set z = (a + b)|e %}"] {
            assert!(rewritten(source).contains("raise_exception"), "{source}");
        }
    }

    #[bounded::test]
    fn jinja_that_the_library_lacks_is_rewritten() {
        for (source, expected) in [
            (
                "{%- generation -%}x{% endgeneration +%}",
                "{%- with -%}x{% endwith +%}",
            ),
            (
                "{{ '%s' % a.b[0]|upper ~ c }}",
                "{{ '%s' |modulo( a.b[0]|upper) ~ c }}",
            ),
            (
                "{{ '%d-%s' % (1, f(x)) }}",
                "{{ '%d-%s' |modulo(1, f(x)) }}",
            ),
            (
                "{{ x + m['a'].f(1) % y }}",
                "{{ x + m['a'].f(1) |modulo( y) }}",
            ),
            ("{{ '%d' % 5 }}\r\n", "{{ '%d' |modulo( 5) }}\n"),
            ("{{ (a) % (b) }}", "{{ (a) |modulo( (b)) }}"),
            (
                "{%- for x, y in f(a in b)[::-1] if x in y -%}",
                "{%- for x, y in (f(a in b)[::-1])|iterated if x in y -%}",
            ),
            ("{% for x in 1, 2 %}", "{% for x in (1, 2)|iterated %}"),
            (
                "{{ x|safe ~ 'a' }}{{ 'a' + b }}",
                "{{ x|safe ~ 'a' }}{{ 'a' + b }}",
            ),
        ] {
            assert_eq!(rewritten(source), expected);
        }
    }
}
