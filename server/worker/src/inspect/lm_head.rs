//! A head of its own beside an embedding that config.json says is the head as well: the reference uses both where they
//! differ, whatever config.json says.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{
    files,
    safetensors::{self, SafetensorsTensor},
};
use crate::failure::Failure;

/// Names of heads, and of the embeddings that they may be copies of.
const PAIRS: [(&str, &str); 3] = [
    ("lm_head.weight", "model.embed_tokens.weight"),
    ("lm_head.weight", "model.language_model.embed_tokens.weight"),
    (
        "language_model.lm_head.weight",
        "language_model.model.embed_tokens.weight",
    ),
];

/// Bytes that are compared at a time.
const PIECE: usize = 1 << 20;

/// Name of the head in these files, if there is one that is no copy of the embedding.
pub(super) fn untied_head(weights: &[PathBuf]) -> Result<Option<&'static str>, Failure> {
    let mut tensors: Vec<(&Path, SafetensorsTensor)> = Vec::new();
    for path in weights {
        let named = safetensors::tensors(path)?.into_iter().filter(|tensor| {
            let is =
                |(head, embedding): &(&str, &str)| [*head, *embedding].contains(&&*tensor.name);
            PAIRS.iter().any(is)
        });
        tensors.extend(named.map(|tensor| (path.as_path(), tensor)));
    }
    let find = |name: &str| tensors.iter().find(|(_, tensor)| tensor.name == name);
    for (head, embedding) in PAIRS {
        if let (Some(one), Some(other)) = (find(head), find(embedding)) {
            return Ok((!equal(one, other)?).then_some(head));
        }
    }
    Ok(None)
}

fn equal(
    one: &(&Path, SafetensorsTensor),
    other: &(&Path, SafetensorsTensor),
) -> Result<bool, Failure> {
    if one.1.dtype != other.1.dtype || one.1.shape != other.1.shape {
        return Ok(false);
    }
    let (mut first, mut second) = (opened(one)?, opened(other)?);
    let mut pieces = [vec![0; PIECE], vec![0; PIECE]];
    let mut left = one.1.bytes;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let [a, b] = &mut pieces;
        let (a, b) = (&mut a[..length], &mut b[..length]);
        let read = |file: &mut File, path, piece: &mut [u8]| {
            file.read_exact(piece)
                .map_err(|e| files::cannot_read(path, &e))
        };
        read(&mut first, one.0, a)?;
        read(&mut second, other.0, b)?;
        if a != b {
            return Ok(false);
        }
        left -= length as u64;
    }
    Ok(true)
}

fn opened((path, tensor): &(&Path, SafetensorsTensor)) -> Result<File, Failure> {
    let (mut file, _) = files::open(path)?;
    file.seek(SeekFrom::Start(tensor.begin))
        .map_err(|e| files::cannot_read(path, &e))?;
    Ok(file)
}
