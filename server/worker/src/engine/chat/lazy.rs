//! What Python makes only when it is iterated: generators, which have no length, and the views of a mapping. Neither
//! has a form in JSON.

use std::sync::Arc;

use minijinja::{
    Error, ErrorKind, State,
    filters::{map, reject, rejectattr, select, selectattr},
    value::{Enumerator, Object, ObjectExt, ObjectRepr, Rest, Value, ValueKind},
};

use super::value::list;

/// Something that is to be iterated.
#[derive(Debug)]
pub(super) struct LazySequence {
    items: Vec<Value>,
    has_length: bool,
}

/// Filters whose answer is a generator.
pub(super) const GENERATORS: [&str; 5] = ["map", "select", "reject", "selectattr", "rejectattr"];

/// The view of a mapping that has these items.
pub(super) fn view(items: Vec<Value>) -> Value {
    Value::from_object(LazySequence {
        items,
        has_length: true,
    })
}

/// Applies one of [`GENERATORS`].
pub(super) fn generator(
    name: &str,
    state: &State<'_, '_>,
    value: &Value,
    arguments: Rest<Value>,
) -> Result<Value, Error> {
    // Of nothing they make nothing.
    let value = match value.is_none() {
        true => list(Vec::new()),
        false => iterated(value)?,
    };
    let mut rest = arguments.0.into_iter();
    let mut text = || {
        let given = rest.next();
        given.map(|given| given.to_string().into())
    };
    let items = match name {
        "map" => {
            let all = rest.collect();
            map(state, value, Rest(all))?
        }
        "select" => {
            let test = text();
            select(state, value, test, Rest(rest.collect()))?
        }
        "reject" => {
            let test = text();
            reject(state, value, test, Rest(rest.collect()))?
        }
        name => {
            let missing = || {
                Error::new(
                    ErrorKind::MissingArgument,
                    "the attribute's name is missing",
                )
            };
            let (attribute, test) = (text().ok_or_else(missing)?, text());
            let rest = Rest(rest.collect());
            match name {
                "selectattr" => selectattr(state, value, attribute, test, rest)?,
                _ => rejectattr(state, value, attribute, test, rest)?,
            }
        }
    };
    Ok(Value::from_object(LazySequence {
        items,
        has_length: false,
    }))
}

/// What a loop goes through: the items of what is lazy.
pub(super) fn iterated(value: &Value) -> Result<Value, Error> {
    match (value.kind(), value.downcast_object_ref::<LazySequence>()) {
        (ValueKind::None, _) => Err(Error::new(
            ErrorKind::InvalidOperation,
            "'NoneType' object is not iterable",
        )),
        (_, Some(lazy)) => Ok(list(lazy.items.clone())),
        (_, None) => Ok(value.clone()),
    }
}

impl Object for LazySequence {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let has_length = self.has_length;
        self.mapped_enumerator(move |this| {
            let items = this.items.iter().cloned();
            match has_length {
                true => Box::new(items),
                // One that does not know how many it has.
                false => Box::new(items.filter(|_| true)),
            }
        })
    }
}
