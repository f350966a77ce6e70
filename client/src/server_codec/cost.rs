//! What a message takes in memory, added up from its bytes.
//!
//! The bytes are read as prost reads them, or further: where this stops, prost has stopped as well. So a part that is
//! longer than what it is in is followed to its own end.

use std::{collections::BTreeMap, sync::LazyLock};

use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// Adds up what messages of one type take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    root: Option<usize>,
}

/// The messages of all requests.
#[derive(Debug, Default)]
struct Table {
    /// By their full names.
    names: BTreeMap<String, usize>,
    fields: Vec<Fields>,
    /// What the fields of a message are called, by number.
    field_names: Vec<BTreeMap<u32, String>>,
}

/// The fields of a message that take memory of their own, by number.
type Fields = BTreeMap<u32, Field>;

/// What a field takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// A message each time.
    Message(usize),
    /// An entry of a map each time, with this message for key and value.
    Entry(usize),
    /// A text or bytes each time.
    Text,
    /// Any number of numbers each time.
    Numbers(Numbers),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    /// What each takes in memory.
    size: usize,
    /// And on the wire, where that is fixed.
    wire: Option<usize>,
}

/// A message that is being read.
struct Frame {
    end: usize,
    /// Its fields; those of a message that nobody knows are passed over.
    fields: Option<usize>,
    /// The field before.
    last: u32,
    is_group: bool,
}

/// What comes behind a field.
enum AfterField {
    None,
    /// What is in it.
    Frame(Frame),
    EndOfGroup,
}

/// The bytes of a message, and how far they are read.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Memory of a message in bytes, the place of its list included, at most; a test sees to it.
const MESSAGE: usize = 288;

/// Memory of a text beside what is in it: its place and its allocation.
const TEXT: usize = 64;

/// Memory of the first entry of a map, which has a node with room for eleven, and of each further one.
const FIRST_ENTRY: usize = 768;
const ENTRY: usize = 192;

/// Nested messages that are followed; prost follows a hundred.
const MAX_DEPTH: usize = 128;

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::of(messages(sets())));

impl Counter {
    /// For messages of the type with this full name.
    pub(super) fn of(name: &str) -> Self {
        Self {
            root: TABLE.names.get(name).copied(),
        }
    }

    /// How many bytes `message` takes, as far as it is one.
    ///
    /// # Errors
    ///
    /// Where it takes more than `limit`: the number of its field in which that is reached.
    pub(super) fn cost(self, message: &[u8], limit: usize) -> Result<usize, u32> {
        let mut reader = Reader {
            bytes: message,
            at: 0,
        };
        let mut frames = vec![Frame {
            end: message.len(),
            fields: self.root,
            last: 0,
            is_group: false,
        }];
        let mut cost = 0;
        while let Some(frame) = frames.last_mut() {
            if reader.at == frame.end {
                frames.pop();
                continue;
            }
            let Some((taken, inner)) = reader.field(frame) else {
                return Ok(cost);
            };
            cost += taken;
            if cost > limit {
                return Err(frames[0].last);
            }
            let in_group = frame.is_group;
            match inner {
                AfterField::None => {}
                AfterField::Frame(frame) if frames.len() < MAX_DEPTH => frames.push(frame),
                AfterField::EndOfGroup if in_group => drop(frames.pop()),
                AfterField::Frame(_) | AfterField::EndOfGroup => return Ok(cost),
            }
        }
        Ok(cost)
    }

    /// What the field with this number is called.
    pub(super) fn field_name(self, number: u32) -> Option<&'static str> {
        let names = &TABLE.field_names[self.root?];
        names.get(&number).map(String::as_str)
    }
}

impl Reader<'_> {
    /// What the next field of `frame` takes; `None` where there is none.
    fn field(&mut self, frame: &mut Frame) -> Option<(usize, AfterField)> {
        if self.at > frame.end {
            return None;
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
        let again = std::mem::replace(&mut frame.last, number) == number;
        let field = frame
            .fields
            .and_then(|fields| TABLE.fields[fields].get(&number));
        let single = match field {
            Some(Field::Numbers(numbers)) => numbers.size,
            _ => 0,
        };
        let group = Frame {
            end: frame.end,
            fields: None,
            last: 0,
            is_group: true,
        };
        match key & 7 {
            0 => self.varint().map(|_| (single, AfterField::None)),
            1 => self.skip(8).map(|()| (single, AfterField::None)),
            5 => self.skip(4).map(|()| (single, AfterField::None)),
            2 => self.delimited(field, again),
            3 => Some((0, AfterField::Frame(group))),
            4 => Some((0, AfterField::EndOfGroup)),
            _ => None,
        }
    }

    /// What a field takes that says how long it is.
    fn delimited(&mut self, field: Option<&Field>, again: bool) -> Option<(usize, AfterField)> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length)?;
        let inside = self.bytes.get(self.at..end)?;
        let message = |fields| {
            AfterField::Frame(Frame {
                end,
                fields: Some(fields),
                last: 0,
                is_group: false,
            })
        };
        let taken = match field {
            Some(Field::Message(fields)) => return Some((MESSAGE, message(*fields))),
            Some(Field::Entry(fields)) => {
                let entry = if again { ENTRY } else { FIRST_ENTRY };
                return Some((entry, message(*fields)));
            }
            Some(Field::Text) => TEXT,
            Some(Field::Numbers(numbers)) => numbers.size * numbers.count(inside),
            None => 0,
        };
        self.at = end;
        Some((taken, AfterField::None))
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.at += length;
        (self.at <= self.bytes.len()).then_some(())
    }

    /// A number, as prost reads it.
    fn varint(&mut self) -> Option<u64> {
        let mut rest = self.bytes.get(self.at..)?;
        let value = prost::encoding::decode_varint(&mut rest).ok()?;
        self.at = self.bytes.len() - rest.len();
        Some(value)
    }
}

impl Numbers {
    /// How many lie there.
    fn count(self, bytes: &[u8]) -> usize {
        match self.wire {
            Some(size) => bytes.len().div_ceil(size),
            // The last one may go on.
            None => bytes.iter().filter(|byte| **byte < 0x80).count() + 1,
        }
    }
}

impl Table {
    /// Of these messages, by their full names with a dot in front.
    fn of(messages: Vec<(String, DescriptorProto)>) -> Self {
        let mut table = Self::default();
        for (n, (name, _)) in messages.iter().enumerate() {
            // A file may be in both sets: either is the same.
            table
                .names
                .insert(name.trim_start_matches('.').to_owned(), n);
        }
        let entries: Vec<bool> = messages
            .iter()
            .map(|(_, message)| is_entry(message))
            .collect();
        for (_, message) in &messages {
            let fields = message.field.iter();
            let fields =
                fields.filter_map(|field| Some((u32::try_from(field.number()).ok()?, field)));
            let names = fields
                .clone()
                .map(|(number, field)| (number, field.name().to_owned()));
            table.field_names.push(names.collect());
            let fields =
                fields.filter_map(|(number, field)| Some((number, table.field(field, &entries)?)));
            let fields = fields.collect();
            table.fields.push(fields);
        }
        table
    }

    /// What `field` takes; `None` for a place in its message.
    fn field(&self, field: &FieldDescriptorProto, entries: &[bool]) -> Option<Field> {
        let size = match field.r#type() {
            Type::Message | Type::Group => {
                let name = field.type_name().trim_start_matches('.');
                let message = *self.names.get(name)?;
                return Some(match entries[message] {
                    true => Field::Entry(message),
                    false => Field::Message(message),
                });
            }
            Type::String | Type::Bytes => return Some(Field::Text),
            Type::Bool => 1,
            Type::Double
            | Type::Int64
            | Type::Uint64
            | Type::Sint64
            | Type::Fixed64
            | Type::Sfixed64 => 8,
            Type::Float
            | Type::Int32
            | Type::Uint32
            | Type::Sint32
            | Type::Enum
            | Type::Fixed32
            | Type::Sfixed32 => 4,
        };
        let wire = match field.r#type() {
            Type::Double | Type::Fixed64 | Type::Sfixed64 => Some(8),
            Type::Float | Type::Fixed32 | Type::Sfixed32 => Some(4),
            _ => None,
        };
        let repeated = field.label() == Label::Repeated;
        repeated.then_some(Field::Numbers(Numbers { size, wire }))
    }
}

/// What the protos of all requests define.
fn sets() -> impl Iterator<Item = FileDescriptorSet> {
    let sets = [
        crate::v1::FILE_DESCRIPTOR_SET,
        crate::inference::FILE_DESCRIPTOR_SET,
    ];
    // That they can be decoded a test sees to.
    sets.into_iter()
        .filter_map(|set| FileDescriptorSet::decode(set).ok())
}

/// All messages, by their full names with a dot in front.
fn messages(sets: impl Iterator<Item = FileDescriptorSet>) -> Vec<(String, DescriptorProto)> {
    let mut messages = Vec::new();
    for file in sets.flat_map(|set| set.file) {
        let package = format!(".{}", file.package());
        for message in file.message_type {
            collect(&package, message, &mut messages);
        }
    }
    messages
}

/// Adds `message` and those in it, by their full names with a dot in front.
fn collect(scope: &str, mut message: DescriptorProto, all: &mut Vec<(String, DescriptorProto)>) {
    let name = format!("{scope}.{}", message.name());
    for nested in std::mem::take(&mut message.nested_type) {
        collect(&name, nested, all);
    }
    all.push((name, message));
}

fn is_entry(message: &DescriptorProto) -> bool {
    let options = message.options.as_ref();
    options.is_some_and(|options| options.map_entry())
}

#[cfg(test)]
mod tests;
