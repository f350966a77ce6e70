//! How Python writes values: `str`, `repr`, and numbers.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};

/// Deepest nesting that is written; what is deeper is left out.
const MAX_DEPTH: usize = 128;

/// `str(value)`; nothing for what is undefined.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        ValueKind::Undefined => String::new(),
        _ => repr(value),
    }
}

/// `repr(value)`.
pub(super) fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(value, MAX_DEPTH, &mut out);
    out
}

fn write_repr(value: &Value, depth: usize, out: &mut String) {
    let Some(depth) = depth.checked_sub(1) else {
        return out.push_str("...");
    };
    match value.kind() {
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (n, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                write_repr(&item, depth, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            let entries = value.as_object().and_then(|map| map.try_iter_pairs());
            for (n, (key, item)) in entries.into_iter().flatten().enumerate() {
                out.push_str(if n > 0 { ", " } else { "" });
                write_repr(&key, depth, out);
                out.push_str(": ");
                write_repr(&item, depth, out);
            }
            out.push('}');
        }
        ValueKind::Undefined => out.push_str("Undefined"),
        _ => out.push_str(&value.to_string()),
    }
}

/// A number. Whole ones are written as they are.
pub(super) fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => float(number),
        _ => value.to_string(),
    }
}

/// `repr` of a float: the fewest digits that give it back.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-inf" } else { "inf" }.into();
    }
    if number != 0.0 && !(1e-4..1e16).contains(&number.abs()) {
        let written = format!("{number:e}");
        let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let mut written = number.to_string();
    if !written.contains('.') {
        written.push_str(".0");
    }
    written
}

fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => {
                // Writing to a string cannot fail.
                let _ = match u32::from(c) {
                    code @ 0..=0xff => write!(out, "\\x{code:02x}"),
                    code @ 0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// As Python has it: no controls, no marks of format, no spaces but the usual one.
fn is_printable(c: char) -> bool {
    let format = matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{e000}'..='\u{f8ff}' | '\u{fff9}'..='\u{fffb}' | '\u{f0000}'..='\u{10ffff}');
    c == ' ' || !(c.is_control() || c.is_whitespace() || format)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::chat::value::value;

    #[bounded::test]
    fn floats_are_written_as_python_writes_them() {
        for (number, written) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
        ] {
            assert_eq!(float(number), written);
        }
    }

    #[bounded::test]
    fn values_are_written_as_python_writes_them() {
        let given =
            json!({"b": [1, 2.0, true, null, "it's"], "a": {"x": "\n\"é\u{200b}"}, "c": []});
        let written = "{'b': [1, 2.0, True, None, \"it's\"], 'a': {'x': '\\n\"é\\u200b'}, 'c': []}";
        assert_eq!(repr(&value(&given)), written);
        assert_eq!(text(&value(&json!("it's"))), "it's");
        assert_eq!(value(&given).to_string(), written);
    }
}
