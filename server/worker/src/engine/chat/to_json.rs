//! `tojson` of chat templates: Python's `json.dumps`.

use minijinja::{
    Error, ErrorKind, State,
    value::{Kwargs, Rest, Value, ValueKind},
};

use super::{lazy::LazySequence, python};

/// Deepest nesting that is written.
const MAX_DEPTH: usize = 128;

/// How JSON is written.
struct JsonStyle {
    ascii: bool,
    indent: Option<String>,
    between: String,
    behind_key: String,
    sorted: bool,
}

/// The filter: `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(
    _: &State<'_, '_>,
    value: &Value,
    arguments: Rest<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let argument = |place: usize, name: &str| -> Result<Option<Value>, Error> {
        let given = match arguments.get(place) {
            Some(value) => Some(value.clone()),
            None => named.get(name)?,
        };
        Ok(given.filter(|value: &Value| !value.is_none()))
    };
    let ascii = argument(0, "ensure_ascii")?.is_some_and(|flag| flag.is_true());
    let indent = argument(1, "indent")?.map(indentation).transpose()?;
    let separators = argument(2, "separators")?.map(separators).transpose()?;
    let sorted = argument(3, "sort_keys")?.is_some_and(|flag| flag.is_true());
    named.assert_all_used()?;
    let (between, behind_key) = separators.unwrap_or_else(|| {
        let between = if indent.is_some() { "," } else { ", " };
        (between.into(), ": ".into())
    });
    let style = JsonStyle {
        ascii,
        indent,
        between,
        behind_key,
        sorted,
    };
    let mut out = String::new();
    style.write(value, 0, &mut out)?;
    Ok(Value::from(out))
}

fn indentation(given: Value) -> Result<String, Error> {
    match given.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Ok(" ".repeat(usize::try_from(i64::try_from(given)?.clamp(0, 64)).unwrap_or(0))),
    }
}

fn separators(given: Value) -> Result<(String, String), Error> {
    let both: Vec<Value> = given.try_iter()?.collect();
    match both.as_slice() {
        [between, behind] if between.as_str().is_some() && behind.as_str().is_some() => {
            Ok((python::text(between), python::text(behind)))
        }
        _ => Err(invalid("separators are two texts")),
    }
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("tojson: {}", what.into()),
    )
}

impl JsonStyle {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid("the value is nested too deeply"));
        }
        if value.downcast_object_ref::<LazySequence>().is_some() {
            return Err(invalid("what is only iterated has no form in JSON"));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.quote(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth, out)?,
            ValueKind::Map => self.dict(value, depth, out)?,
            kind => {
                return Err(invalid(format!(
                    "a value of type {kind} has no form in JSON"
                )));
            }
        }
        Ok(())
    }

    fn list(&self, list: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        out.push('[');
        let mut any = false;
        for item in list.try_iter()? {
            self.begin(&mut any, depth, out);
            self.write(&item, depth + 1, out)?;
        }
        self.end(any, depth, out);
        out.push(']');
        Ok(())
    }

    fn dict(&self, dict: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        let entries = dict.as_object().and_then(|dict| dict.try_iter_pairs());
        let mut entries: Vec<(Value, Value)> = entries.into_iter().flatten().collect();
        if self.sorted {
            entries.sort_by_cached_key(|(key, _)| key.clone());
        }
        out.push('{');
        let mut any = false;
        for (key, value) in &entries {
            self.begin(&mut any, depth, out);
            self.quote(&key_text(key)?, out);
            out.push_str(&self.behind_key);
            self.write(value, depth + 1, out)?;
        }
        self.end(any, depth, out);
        out.push('}');
        Ok(())
    }

    /// What stands before an item; `any` says whether it is not the first, and is set.
    fn begin(&self, any: &mut bool, depth: usize, out: &mut String) {
        if std::mem::replace(any, true) {
            out.push_str(&self.between);
        }
        self.new_line(depth + 1, out);
    }

    fn end(&self, any: bool, depth: usize, out: &mut String) {
        if any {
            self.new_line(depth, out);
        }
    }

    fn new_line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    }

    fn quote(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn number(value: &Value) -> String {
    match python::number(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        number => number.into(),
    }
}

/// A key as JSON has it.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(python::text(key)),
        ValueKind::None => Ok("null".into()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        ValueKind::Number => Ok(number(key)),
        kind => Err(invalid(format!("a key of type {kind} has no form in JSON"))),
    }
}
