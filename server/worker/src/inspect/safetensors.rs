//! The header of a safetensors file: names, types and shapes of its tensors.
//!
//! Format: eight bytes with the header's length, the header as JSON, then the tensors' bytes without gaps.

use std::{collections::HashMap, io::Read, path::Path};

use serde::Deserialize;

use super::files;
use crate::failure::Failure;

/// Longest header, as the format's own library has it.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SafetensorsTensor {
    /// Its name.
    pub(super) name: String,
    /// Its data type as the file names it, for example "BF16".
    pub(super) dtype: String,
    /// Its shape.
    pub(super) shape: Vec<u64>,
    /// Number of its elements.
    pub(super) elements: u64,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// Where in the file its bytes begin.
    pub(super) begin: u64,
}

#[derive(Deserialize)]
struct TensorEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The file's tensors. The file is checked to be as long as its header says.
pub(super) fn tensors(path: &Path) -> Result<Vec<SafetensorsTensor>, Failure> {
    let (file, length) = files::open_weights(path)?;
    let broken = |why: String| {
        Failure::unusable(format!(
            "{} is no intact safetensors file: {why}. Get a complete copy of the file.",
            files::name(path)
        ))
    };
    read(file, length).map_err(broken)
}

fn read(mut file: impl Read, length: u64) -> Result<Vec<SafetensorsTensor>, String> {
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix)
        .map_err(|_| "it is shorter than its header".to_owned())?;
    let header_length = u64::from_le_bytes(prefix);
    let available = length.saturating_sub(8);
    if header_length > available.min(MAX_HEADER) {
        return Err(format!(
            "its header claims {header_length} bytes, but only {} are possible",
            available.min(MAX_HEADER)
        ));
    }
    let mut header = Vec::new();
    file.take(header_length)
        .read_to_end(&mut header)
        .map_err(|e| e.to_string())?;
    let mut entries: HashMap<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|e| format!("its header is malformed: {e}"))?;
    entries.remove("__metadata__");
    let mut end = 0;
    let tensors = entries
        .into_iter()
        .map(|(name, entry)| {
            let (mut tensor, tensor_end) = tensor(name, entry)?;
            end = end.max(tensor_end);
            // The offsets count from behind the header.
            tensor.begin += 8 + header_length;
            Ok(tensor)
        })
        .collect::<Result<Vec<_>, String>>()?;
    let present = available - header_length;
    if end > present {
        return Err(format!(
            "its tensors take {end} bytes, but it has only {present}; it is cut off"
        ));
    }
    Ok(tensors)
}

/// The tensor and the end of its bytes.
fn tensor(name: String, entry: serde_json::Value) -> Result<(SafetensorsTensor, u64), String> {
    let entry: TensorEntry = serde_json::from_value(entry)
        .map_err(|e| format!("its tensor {name} is malformed: {e}"))?;
    let (begin, end) = entry.data_offsets;
    let elements = entry
        .shape
        .iter()
        .try_fold(1u64, |product, size| product.checked_mul(*size));
    let bytes = end.checked_sub(begin);
    let (Some(elements), Some(bytes)) = (elements, bytes) else {
        return Err(format!("its tensor {name} has an impossible size"));
    };
    if let Some(bits) = bits(&entry.dtype)
        && elements.checked_mul(bits).map(|bits| bits.div_ceil(8)) != Some(bytes)
    {
        return Err(format!("its tensor {name} has not the size of its shape"));
    }
    let tensor = SafetensorsTensor {
        name,
        dtype: entry.dtype,
        shape: entry.shape,
        elements,
        bytes,
        begin,
    };
    Ok((tensor, end))
}

/// Size of an element in bits; `None` for a type that is not known here.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "I8" | "U8" | "BOOL" => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Vec<SafetensorsTensor>, String> {
        read(bytes, bytes.len() as u64)
    }

    const HEADER: &str =
        r#"{"__metadata__":{"a":"b"},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}"#;

    #[bounded::test]
    fn tensors_are_read() {
        let tensors = parse(&file(HEADER, 12)).expect("tensors");
        assert_eq!(tensors.len(), 1);
        assert_eq!((tensors[0].elements, tensors[0].bytes), (6, 12));
    }

    #[bounded::test]
    fn a_cut_file_is_refused() {
        assert!(parse(&file(HEADER, 11)).is_err());
        assert!(parse(&file(HEADER, 0)[..20]).is_err());
        assert!(parse(&[]).is_err());
    }

    #[bounded::test]
    fn a_huge_length_is_refused_before_it_is_allocated() {
        assert!(parse(&u64::MAX.to_le_bytes()).is_err());
    }

    #[bounded::test]
    fn impossible_tensors_are_refused() {
        for tensor in [
            r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}"#,
            r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#,
            r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#,
            r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#,
            r#"{"dtype":"F32"}"#,
        ] {
            assert!(
                parse(&file(&format!(r#"{{"w":{tensor}}}"#), 8)).is_err(),
                "{tensor}"
            );
        }
    }

    proptest! {
        #[bounded::test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
