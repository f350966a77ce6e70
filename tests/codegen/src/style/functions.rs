//! Functions of a source, with their lines of code. Read by hand: `proc-macro2` tells lines only with a feature that the
//! engine would be built anew for.

use std::fmt;

/// A function that has a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// The line that it begins in, from 1.
    pub(super) at: usize,
    /// Those between its braces that are neither blank nor nothing but comment.
    pub(super) lines: usize,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.at, self.name, self.lines)
    }
}

/// The functions of `text`, those within others too.
pub(super) fn functions(text: &str) -> Vec<Function> {
    let code = without_comments_and_literals(text);
    let starts = code.match_indices("fn ").map(|(at, _)| at);
    let starts = starts.filter(|&at| !code[..at].ends_with(is_in_word));
    let function = |at: usize| {
        let signature = &code[at + "fn ".len()..];
        let name = signature.split(|c| !is_in_word(c) && c != '$').next()?;
        let body = body(signature)?;
        Some(Function {
            name: name.to_owned(),
            at: code[..at].matches('\n').count() + 1,
            lines: body.lines().filter(|line| !line.trim().is_empty()).count(),
        })
    };
    starts.filter_map(function).collect()
}

/// What is between the braces of the function whose signature begins here; `None` if it has none, as in a trait.
fn body(signature: &str) -> Option<&str> {
    let mut depth = 0_i32;
    let start = signature.find(|sign| {
        depth += match sign {
            '(' | '[' => 1,
            ')' | ']' => -1,
            _ => 0,
        };
        depth == 0 && matches!(sign, '{' | ';')
    })?;
    let body = signature[start..].strip_prefix('{')?;
    let mut depth = 1_i32;
    let end = body.find(|sign| {
        depth += match sign {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    })?;
    Some(&body[..end])
}

/// The text with blanks in place of comments and with `_` in place of literals, line by line: what braces are left in it
/// are those of the code.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (length, shown_as) = lexeme(rest);
        let (lexeme, after) = rest.split_at(length);
        code.extend(lexeme.chars().map(|c| match shown_as {
            Some(shown_as) if !c.is_whitespace() => shown_as,
            _ => c,
        }));
        rest = after;
    }
    code
}

/// How long the comment, literal or word is that `text` begins with, and what it is shown as if not as itself.
fn lexeme(text: &str) -> (usize, Option<char>) {
    let word = text.find(|c| !is_in_word(c)).unwrap_or(text.len());
    if text.starts_with("//") {
        (text.find('\n').unwrap_or(text.len()), Some(' '))
    } else if text.starts_with("/*") {
        (block_comment(text), Some(' '))
    } else if let "r" | "br" | "cr" = &text[..word]
        && let Some(length) = raw_string(&text[word..])
    {
        (word + length, Some('_'))
    } else if word > 0 {
        (word, None)
    } else if text.starts_with('"') {
        (quoted(text, '"'), Some('_'))
    } else if is_character(text) {
        (quoted(text, '\''), Some('_'))
    } else {
        (text.chars().next().map_or(0, char::len_utf8), None)
    }
}

/// Such a comment may have others in it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_i32;
    let mut at = 0;
    while at < text.len() {
        let (step, change) = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth += change;
        if depth == 0 {
            break;
        }
    }
    at
}

/// `None` where a raw name stands.
fn raw_string(text: &str) -> Option<usize> {
    let marks = text.find(|c| c != '#')?;
    let inside = text[marks..].strip_prefix('"')?;
    let end = format!("\"{}", &text[..marks]);
    let length = inside.find(&end).unwrap_or(inside.len());
    Some(marks + 1 + length + end.len())
}

/// Whether a character begins here, and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut signs = text.chars();
    signs.next() == Some('\'') && (signs.next() == Some('\\') || signs.next() == Some('\''))
}

fn quoted(text: &str, mark: char) -> usize {
    let mut is_escaped = false;
    let inside = &text[1..];
    let end = inside.find(|c| {
        let is_end = c == mark && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn lengths(text: &str) -> Vec<(String, usize)> {
    let functions = functions(text).into_iter();
    functions.map(|it| (it.name, it.lines)).collect()
}

#[bounded::test]
fn blank_lines_and_comments_are_not_counted() {
    let text =
        "fn a() {\n    one();\n\n    // Why.\n    /* and\n so /* on */ */\n    two(); // both\n}\n";
    assert_eq!(lengths(text), [("a".to_owned(), 2)]);
}

#[bounded::test]
fn the_lines_of_a_text_are_counted() {
    let text = "fn a() {\n    b(\"\n// {\n\n  }\");\n}";
    assert_eq!(lengths(text), [("a".to_owned(), 3)]);
}

#[bounded::test]
fn braces_of_comments_and_literals_are_none() {
    let text = r##"
fn a<'a>() { // }
    let signs = ['}', '\'', '"', '\u{7d}', b'}'];
    let texts = ("}\\", "\"}", r"\", r#""}"#, b"}", br"}");
    let r#fn: &'static str = "";
}
fn b() {}
"##;
    assert_eq!(lengths(text), [("a".to_owned(), 3), ("b".to_owned(), 0)]);
}

#[bounded::test]
fn functions_within_others_are_found_and_those_without_a_body_are_not() {
    let text = "trait T { fn a(it: [u8; 2]) -> u8; }\nmacro_rules! m { () => { fn $b(f: fn(u8)) {\n fn c() { }\n} } }";
    let found = functions(text);
    let found: Vec<_> = found
        .iter()
        .map(|it| (&*it.name, it.at, it.lines))
        .collect();
    assert_eq!(found, [("$b", 2, 1), ("c", 3, 0)]);
}
