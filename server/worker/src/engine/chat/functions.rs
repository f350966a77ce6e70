//! Functions, filters and tests that chat templates count on, with the meaning that Python and Jinja give them.

use chrono::Local;
use minijinja::{
    Environment, Error, ErrorKind, Output, State,
    value::{Kwargs, Rest, Value, ValueKind},
};

use super::{
    lazy::{GENERATORS, generator, iterated, view},
    python, strings,
    to_json::tojson,
};

/// Adds them to `environment`.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(print);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Value| python::text(value));
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("replace", replace);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("modulo", modulo);
    environment.add_filter("iterated", iterated);
    for name in GENERATORS {
        environment.add_filter(
            name,
            move |state: &State<'_, '_>, value: &Value, arguments: Rest<Value>| {
                generator(name, state, value, arguments)
            },
        );
    }
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", |value: &Value| {
        is_sequence(value) || matches!(value.kind(), ValueKind::Iterable | ValueKind::Undefined)
    });
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
}

/// What `{{ value }}` writes.
fn print(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Invalid => minijinja::escape_formatter(out, state, value),
        ValueKind::String => Ok(out.write_str(value.as_str().unwrap_or_default())?),
        _ => Ok(out.write_str(&python::text(value))?),
    }
}

/// Methods of Python's types.
fn method(
    state: &State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(answer) = strings::method(text, name, arguments)
    {
        return answer;
    }
    if value.kind() == ValueKind::Iterable && name == "count" {
        let items: Vec<Value> = value.try_iter()?.collect();
        return method(state, &Value::from(items), name, arguments);
    }
    if name == "copy" && matches!(value.kind(), ValueKind::Map | ValueKind::Seq) {
        return Ok(value.clone());
    }
    let answer =
        minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)?;
    match (value.kind(), name) {
        (ValueKind::Map, "keys" | "values" | "items") => Ok(view(answer.try_iter()?.collect())),
        _ => Ok(answer),
    }
}

fn raise_exception(message: &Value) -> Result<String, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        python::text(message),
    ))
}

/// `datetime.now().strftime(format)`: the time has no zone, and what is no directive is written as it is.
fn strftime_now(format: &str) -> String {
    let now = Local::now().naive_local();
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let flagged = rest[1..].starts_with(['-', '_', '0']);
        let length = 1 + usize::from(flagged);
        let Some(directive) = rest[length..].chars().next() else {
            break;
        };
        let (whole, after) = rest.split_at(length + directive.len_utf8());
        rest = after;
        match directive {
            'z' | 'Z' => {}
            'f' => out.push_str(&now.format("%6f").to_string()),
            c if c.is_ascii_alphabetic() || c == '%' => out.push_str(&directive_text(whole, &now)),
            _ => out.push_str(whole),
        }
    }
    out + rest
}

fn directive_text(directive: &str, now: &chrono::NaiveDateTime) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    // An unknown directive makes the formatting fail.
    match write!(text, "{}", now.format(directive)) {
        Ok(()) => text,
        Err(_) => directive.to_owned(),
    }
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    if let Some(length) = value.len() {
        return Ok(length);
    }
    let what = format!("an object of type {} has no length", value.kind());
    Err(Error::new(ErrorKind::InvalidOperation, what))
}

fn replace(value: &Value, old: &Value, new: &Value, count: Option<i64>) -> String {
    let (text, old, new) = (python::text(value), python::text(old), python::text(new));
    match count.and_then(|count| usize::try_from(count).ok()) {
        Some(count) => text.replacen(&old, &new, count),
        None => text.replace(&old, &new),
    }
}

fn int(value: &Value, default: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let default = match default {
        Some(default) => default,
        None => named
            .get::<Option<Value>>("default")?
            .unwrap_or_else(|| Value::from(0)),
    };
    let base = named.get::<Option<u32>>("base")?.unwrap_or(10);
    named.assert_all_used()?;
    let whole = match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => return Ok(value.clone()),
        ValueKind::Number => f64::try_from(value.clone()).ok().map(|it| it as i128),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim();
            let whole = i128::from_str_radix(text, base.clamp(2, 36)).ok();
            whole.or_else(|| text.parse::<f64>().ok().map(|it| it as i128))
        }
        _ => None,
    };
    Ok(match whole {
        Some(whole) => i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from),
        None => default,
    })
}

fn float(value: &Value, default: Option<f64>) -> f64 {
    let number = match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => value.as_str().and_then(|text| text.trim().parse().ok()),
        _ => None,
    };
    number.or(default).unwrap_or(0.0)
}

/// The operator `%`: of a text with what is put into it, or of two numbers.
fn modulo(state: &State<'_, '_>, left: &Value, right: Rest<Value>) -> Result<Value, Error> {
    if left.as_str().is_some() {
        let given: Vec<Value> = right.iter().map(shown).collect();
        let arguments: Vec<Value> = std::iter::once(left.clone()).chain(given).collect();
        return state.apply_filter("format", &arguments);
    }
    let [right] = right.0.as_slice() else {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "% takes two numbers, or a text and what is put into it",
        ));
    };
    if left.is_integer() && right.is_integer() {
        let (left, right) = (
            i128::try_from(left.clone())?,
            i128::try_from(right.clone())?,
        );
        let rest = left
            .checked_rem(right)
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "modulo by zero"))?;
        let whole = if rest != 0 && (rest < 0) != (right < 0) {
            rest + right
        } else {
            rest
        };
        return Ok(Value::from(whole));
    }
    let (left, right) = (f64::try_from(left.clone())?, f64::try_from(right.clone())?);
    Ok(Value::from(left - right * (left / right).floor()))
}

/// A value as `%s` shows it. Texts and numbers stay what they are.
fn shown(value: &Value) -> Value {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => Value::from(python::text(value)),
        _ => value.clone(),
    }
}

fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Map | ValueKind::String
    )
}
