//! Random messages of a type.

use std::collections::HashMap;

use fastrand::Rng;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::{
    WATCHED,
    ids::{OTHERS, is_name},
    words::{bytes, text},
};

/// Deepest nesting that is made on purpose; mutations go deeper.
const DEPTH: usize = 6;

/// Makes messages.
pub(super) struct MessageMaker<'a> {
    pub(super) rng: &'a mut Rng,
    /// Bytes that texts may still have.
    pub(super) budget: usize,
    /// Directory of a model.
    pub(super) path: &'a str,
}

impl MessageMaker<'_> {
    /// A message of this type.
    pub(super) fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        depth: usize,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            let likely = if is_name(field.name()) { 9 } else { 4 };
            if depth > DEPTH || self.rng.u8(..10) >= likely {
                continue;
            }
            let value = self.field(&field, depth);
            message.set_field(&field, value);
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let many = match self.rng.u16(..2000) {
            // More than any request needs, in few bytes each.
            0 if !matches!(field.kind(), Kind::Message(_)) => 2_000_000,
            0 if depth == 0 => 100_000,
            1..50 => 200,
            few => usize::from(few % 4),
        };
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                return Value::Map(HashMap::new());
            };
            let value = entry.map_entry_value_field();
            let entries = (0..many).map(|_| {
                (
                    self.key(&entry.map_entry_key_field().kind()),
                    self.value(&value, depth),
                )
            });
            return Value::Map(entries.collect());
        }
        if field.is_list() {
            return Value::List((0..many).map(|_| self.value(field, depth)).collect());
        }
        self.value(field, depth)
    }

    fn key(&mut self, kind: &Kind) -> MapKey {
        const KEYS: [&str; 7] = [
            "reasoning_effort",
            "enable_thinking",
            "messages",
            "temperature",
            "priority",
            "max_tokens",
            "label",
        ];
        match kind {
            Kind::Bool => MapKey::Bool(self.rng.bool()),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(self.rng.i32(..)),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(self.rng.i64(..)),
            Kind::Uint32 | Kind::Fixed32 => MapKey::U32(self.rng.u32(..)),
            Kind::Uint64 | Kind::Fixed64 => MapKey::U64(self.rng.u64(..)),
            _ if self.rng.bool() => MapKey::String(KEYS[self.rng.usize(..KEYS.len())].to_owned()),
            _ => MapKey::String(text(self.rng, &mut self.budget)),
        }
    }

    fn value(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        match field.kind() {
            Kind::Message(descriptor) => Value::Message(self.message(&descriptor, depth + 1)),
            Kind::Enum(descriptor) => {
                let known: Vec<_> = descriptor.values().map(|value| value.number()).collect();
                match self.rng.u8(..10) {
                    0 => Value::EnumNumber(self.rng.i32(..)),
                    _ => Value::EnumNumber(known[self.rng.usize(..known.len())]),
                }
            }
            Kind::String => Value::String(self.words(field.name())),
            Kind::Bytes => Value::Bytes(bytes(self.rng, &mut self.budget).into()),
            Kind::Bool => Value::Bool(self.rng.bool()),
            Kind::Double => Value::F64(self.real()),
            Kind::Float => Value::F32(self.real() as f32),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.whole() as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.whole()),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.whole() as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.whole() as u64),
        }
    }

    fn words(&mut self, field: &str) -> String {
        const ROLES: [&str; 4] = ["user", "assistant", "system", "tool"];
        match field {
            name if is_name(name) && self.rng.u8(..4) > 0 => {
                let all = [&WATCHED[..], &OTHERS[..]].concat();
                all[self.rng.usize(..all.len())].to_owned()
            }
            "role" if self.rng.u8(..4) > 0 => ROLES[self.rng.usize(..ROLES.len())].to_owned(),
            "path" if self.rng.bool() => self.path.to_owned(),
            _ => text(self.rng, &mut self.budget),
        }
    }

    fn whole(&mut self) -> i64 {
        const WHOLE: [i64; 10] = [
            0,
            1,
            2,
            16,
            255,
            65_536,
            i32::MAX as i64,
            u32::MAX as i64,
            i64::MAX,
            i64::MIN,
        ];
        match self.rng.u8(..4) {
            0 => -self.rng.i64(0..100),
            1 => WHOLE[self.rng.usize(..WHOLE.len())],
            _ => self.rng.i64(0..100),
        }
    }

    fn real(&mut self) -> f64 {
        const REAL: [f64; 10] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            1e-300,
            1e300,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.5,
        ];
        match self.rng.bool() {
            true => REAL[self.rng.usize(..REAL.len())],
            false => self.rng.f64() * 2.0,
        }
    }
}
