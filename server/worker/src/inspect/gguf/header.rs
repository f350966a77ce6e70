//! Parses the header of a GGUF file.
//!
//! Lengths and counts in the file are checked against what is left of it before anything is read or
//! allocated, so that the memory and time that this takes are bounded by the file's size. Lists are counted
//! and skipped, but for those of the tokenizer.
//!
//! Format: magic, version, number of tensors and of values; the values; the tensors' names, shapes, types
//! and offsets; and, aligned, the tensors' bytes.

use std::{collections::HashMap, io::Read};

use super::tensor_type::tensor_type;

/// Longest text that is kept, such as a chat template.
const MAX_TEXT: u64 = 16 << 20;

/// Longest name of a value or a tensor.
const MAX_NAME: u64 = 64 << 10;

/// Most values, tensors, and elements of a list.
const MAX_COUNT: u64 = 16 << 20;

/// Lists in lists.
const MAX_DEPTH: u32 = 4;

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 8;

/// Alignment of the tensors' bytes where the file does not say.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Lists that are kept: those of a tokenizer.
const KEPT: [&str; 5] = [
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges",
    SCORES,
    "tokenizer.ggml.suppress_tokens",
];

/// The one that may be negative.
pub(super) const SCORES: &str = "tokenizer.ggml.scores";

/// A file's header.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// Its values by name.
    pub(super) values: HashMap<String, Value>,
    /// Its tensors.
    pub(super) tensors: Vec<GgufTensor>,
    /// Its size in bytes.
    pub(super) bytes: u64,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A whole number that is not negative.
    Number(u64),
    /// A text.
    Text(String),
    /// True or false.
    Flag(bool),
    /// A number with a fraction.
    Float(f64),
    /// Texts of a tokenizer.
    Texts(Vec<String>),
    /// Whole numbers of a tokenizer.
    Numbers(Vec<u64>),
    /// Scores of a tokenizer.
    Scores(Vec<f64>),
    /// Another list of that many elements.
    List(u64),
    /// Anything else.
    Other,
}

/// A tensor.
#[derive(Debug, Clone)]
pub(super) struct GgufTensor {
    /// Its name.
    pub(super) name: String,
    /// Its shape, innermost dimension first.
    pub(super) shape: Vec<u64>,
    /// Number of its elements.
    pub(super) elements: u64,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// Name of its type.
    pub(super) type_name: &'static str,
    /// Whether the engine can read it.
    pub(super) loadable: bool,
    offset: u64,
}

impl Header {
    /// Parses the header of a file of that many bytes. The error says what is wrong.
    pub(super) fn read(file: impl Read, length: u64) -> Result<Self, String> {
        let mut reader = HeaderReader {
            file,
            length,
            remaining: length,
        };
        let (tensor_count, value_count) = reader.counts()?;
        let mut header = Self::default();
        for _ in 0..value_count {
            let name = reader.text(MAX_NAME)?;
            let kind = reader.u32()?;
            let value = match kind {
                9 if KEPT.contains(&name.as_str()) => reader.kept_list(&name)?,
                kind => reader.value(kind, 0)?,
            };
            header.values.insert(name, value);
        }
        for _ in 0..tensor_count {
            header.tensors.push(reader.tensor()?);
        }
        header.bytes = reader.length - reader.remaining;
        header.check_tensors(length)?;
        Ok(header)
    }

    /// The text of this name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number of this name.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.values.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Checks that every tensor's bytes are within the file.
    fn check_tensors(&self, length: u64) -> Result<(), String> {
        let alignment = self
            .number("general.alignment")
            .unwrap_or(DEFAULT_ALIGNMENT);
        let data = self.bytes.checked_next_multiple_of(alignment);
        for tensor in &self.tensors {
            let end = data
                .and_then(|data| data.checked_add(tensor.offset))
                .and_then(|begin| begin.checked_add(tensor.bytes));
            if end.is_none_or(|end| end > length) {
                return Err(format!("the tensor {} lies beyond its end", tensor.name));
            }
        }
        Ok(())
    }
}

struct HeaderReader<R> {
    file: R,
    length: u64,
    /// Bytes of the file that were not read yet.
    remaining: u64,
}

impl<R: Read> HeaderReader<R> {
    /// Numbers of tensors and of values.
    fn counts(&mut self) -> Result<(u64, u64), String> {
        if self.length == 0 {
            return Err("it is empty".into());
        }
        if self.bytes::<4>()? != *b"GGUF" {
            return Err("it does not begin with \"GGUF\"".into());
        }
        match self.u32()? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 2 | 3) => {
                return Err("it is in big-endian byte order, which the engine cannot read".into());
            }
            version => return Err(format!("its version {version} is not supported")),
        }
        // The smallest tensor and the smallest value take that many bytes.
        let tensors = self.count(24)?;
        let values = self.count(13)?;
        Ok((tensors, values))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.remaining = self
            .remaining
            .checked_sub(N as u64)
            .ok_or("it is cut off")?;
        let mut bytes = [0; N];
        self.file
            .read_exact(&mut bytes)
            .map_err(|e| format!("it cannot be read: {e}"))?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A count of things that take at least `size` bytes each.
    fn count(&mut self, size: u64) -> Result<u64, String> {
        let count = self.u64()?;
        if count > (self.remaining / size).min(MAX_COUNT) {
            return Err(format!("it claims {count} elements, more than it can hold"));
        }
        Ok(count)
    }

    /// A text's length, which what is left of the file can hold.
    fn text_length(&mut self) -> Result<u64, String> {
        let length = self.u64()?;
        if length > self.remaining {
            return Err(format!(
                "it claims a text of {length} bytes, more than it holds"
            ));
        }
        Ok(length)
    }

    fn text(&mut self, limit: u64) -> Result<String, String> {
        let length = self.text_length()?;
        if length > limit {
            return Err(format!(
                "it has a text of {length} bytes, more than {limit}"
            ));
        }
        self.remaining -= length;
        let mut bytes = Vec::new();
        let read = (&mut self.file).take(length).read_to_end(&mut bytes);
        match read {
            Ok(read) if read as u64 == length => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(_) => Err("it is cut off".into()),
            Err(e) => Err(format!("it cannot be read: {e}")),
        }
    }

    fn skip(&mut self, length: u64) -> Result<(), String> {
        self.remaining = self.remaining.checked_sub(length).ok_or("it is cut off")?;
        let skipped = std::io::copy(&mut (&mut self.file).take(length), &mut std::io::sink());
        match skipped {
            Ok(skipped) if skipped == length => Ok(()),
            Ok(_) => Err("it is cut off".into()),
            Err(e) => Err(format!("it cannot be read: {e}")),
        }
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value, String> {
        let signed = |value: i64| u64::try_from(value).map_or(Value::Other, Value::Number);
        Ok(match kind {
            0 => Value::Number(self.bytes::<1>()?[0].into()),
            1 => signed(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Number(u16::from_le_bytes(self.bytes()?).into()),
            3 => signed(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Number(self.u32()?.into()),
            5 => signed(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Flag(self.bytes::<1>()?[0] != 0),
            8 => Value::Text(self.text(MAX_TEXT)?),
            9 => self.list(depth)?,
            10 => Value::Number(self.u64()?),
            11 => signed(i64::from_le_bytes(self.bytes()?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            kind => return Err(format!("it has a value of the unknown type {kind}")),
        })
    }

    /// A list of a tokenizer, with its elements.
    fn kept_list(&mut self, name: &str) -> Result<Value, String> {
        let kind = self.u32()?;
        Ok(match kind {
            5 if name == SCORES => {
                let count = self.count(4)?;
                let mut scores = Vec::new();
                for _ in 0..count {
                    scores.push(i32::from_le_bytes(self.bytes()?).into());
                }
                Value::Scores(scores)
            }
            8 => {
                let count = self.count(8)?;
                let mut texts = Vec::new();
                for _ in 0..count {
                    texts.push(self.text(MAX_NAME)?);
                }
                Value::Texts(texts)
            }
            4 | 5 => {
                let count = self.count(4)?;
                let mut numbers = Vec::new();
                for _ in 0..count {
                    numbers.push(self.u32()?.into());
                }
                Value::Numbers(numbers)
            }
            6 => {
                let count = self.count(4)?;
                let mut scores = Vec::new();
                for _ in 0..count {
                    scores.push(f32::from_le_bytes(self.bytes()?).into());
                }
                Value::Scores(scores)
            }
            kind => return Err(format!("a list of its tokenizer is of the type {kind}")),
        })
    }

    fn list(&mut self, depth: u32) -> Result<Value, String> {
        if depth >= MAX_DEPTH {
            return Err("its lists are nested too deeply".into());
        }
        let kind = self.u32()?;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            kind => return Err(format!("it has a list of the unknown type {kind}")),
        };
        let count = self.count(size)?;
        match kind {
            8 => {
                for _ in 0..count {
                    let length = self.text_length()?;
                    self.skip(length)?;
                }
            }
            9 => {
                for _ in 0..count {
                    self.list(depth + 1)?;
                }
            }
            _ => self.skip(count * size)?,
        }
        Ok(Value::List(count))
    }

    fn tensor(&mut self) -> Result<GgufTensor, String> {
        let name = self.text(MAX_NAME)?;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(format!("its tensor {name} has {dimensions} dimensions"));
        }
        let shape = (0..dimensions)
            .map(|_| self.u64())
            .collect::<Result<Vec<_>, _>>()?;
        let number = self.u32()?;
        let offset = self.u64()?;
        let kind = tensor_type(number)
            .ok_or_else(|| format!("its tensor {name} is of the unknown type {number}"))?;
        let elements = shape
            .iter()
            .try_fold(1u64, |product, size| product.checked_mul(*size));
        let bytes = elements
            .filter(|elements| elements % kind.block == 0)
            .and_then(|elements| (elements / kind.block).checked_mul(kind.bytes));
        let (Some(elements), Some(bytes)) = (elements, bytes) else {
            return Err(format!("its tensor {name} has an impossible size"));
        };
        Ok(GgufTensor {
            name,
            shape,
            elements,
            bytes,
            type_name: kind.name,
            loadable: kind.loadable,
            offset,
        })
    }
}

#[cfg(test)]
impl GgufTensor {
    /// A tensor of that type and shape, innermost dimension first.
    pub(super) fn new(name: &str, type_name: &'static str, shape: &[u64], bytes: u64) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            elements: shape.iter().product(),
            bytes,
            type_name,
            loadable: true,
            offset: 0,
        }
    }
}

#[cfg(test)]
mod tests;
