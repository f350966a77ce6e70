//! Values of JSON as chat templates get them: keys in the order in which they came, and printed as Python prints
//! them wherever a template prints them.

use std::{collections::HashMap, fmt, sync::Arc};

use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr, Value};
use serde_json::Value as Json;

use super::python;

/// A mapping.
#[derive(Debug)]
struct PythonDict {
    entries: Vec<(Value, Value)>,
    places: HashMap<String, usize>,
}

/// A list.
#[derive(Debug)]
struct PythonList(Vec<Value>);

/// A template's value of a JSON value.
pub(super) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => {
            if let Some(number) = number.as_i64() {
                Value::from(number)
            } else if let Some(number) = number.as_u64() {
                Value::from(number)
            } else {
                Value::from(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => list(items.iter().map(value).collect()),
        Json::Object(fields) => dict(fields.iter().map(|(name, it)| (name.clone(), value(it)))),
    }
}

/// A list of these.
pub(super) fn list(items: Vec<Value>) -> Value {
    Value::from_object(PythonList(items))
}

/// A mapping of these, in this order. Of several with one name the last counts, at the first one's place.
pub(super) fn dict(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    let mut entries: Vec<(Value, Value)> = Vec::new();
    let mut places = HashMap::new();
    for (name, value) in fields {
        if let Some(place) = places.get(&name) {
            let place: usize = *place;
            entries[place].1 = value;
            continue;
        }
        entries.push((Value::from(name.as_str()), value));
        places.insert(name, entries.len() - 1);
    }
    Value::from_object(PythonDict { entries, places })
}

impl Object for PythonDict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let place = self.places.get(key)?;
        Some(self.entries.get(*place)?.1.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_key_value_enumerator(|this| Box::new(this.entries.iter().cloned()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python::repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}

impl Object for PythonList {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&python::repr(&Value::from_dyn_object(Arc::clone(self))))
    }
}
