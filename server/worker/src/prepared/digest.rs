//! Digests of files: whole ones, and samples that show most changes at once.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use sha2::{Digest, Sha256};

/// Length of a sampled block in bytes.
const BLOCK: usize = 64 << 10;

/// Blocks that are sampled: the first, the last and some between.
const BLOCKS: u64 = 4;

/// How much of a file is read at a time.
const BUFFER: usize = 1 << 20;

/// SHA-256 of the file from where it stands to its end.
pub(super) fn whole(mut file: &File) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(digest)),
            read => digest.update(&buffer[..read]),
        }
    }
}

/// Digest of some blocks of the file, of which the last ends with it.
pub(super) fn sample(file: &File) -> io::Result<String> {
    let last = file.metadata()?.len().saturating_sub(BLOCK as u64);
    let mut digest = Sha256::new();
    let mut block = vec![0; BLOCK];
    for index in 0..BLOCKS {
        let mut filled = 0;
        let start = last / (BLOCKS - 1) * index + last % (BLOCKS - 1) * index / (BLOCKS - 1);
        while filled < BLOCK {
            match file.read_at(&mut block[filled..], start + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        digest.update(&block[..filled]);
    }
    Ok(hex(digest))
}

/// What was digested, as text.
pub(super) fn hex(digest: Sha256) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in digest.finalize() {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    #[bounded::test]
    fn a_sample_covers_the_first_and_the_last_byte() {
        for length in [1, BLOCK, 3 * BLOCK + 1, 10 * BLOCK] {
            let mut bytes = vec![0u8; length];
            let before = sample(&file(&bytes)).expect("a sample");
            bytes[length - 1] ^= 1;
            assert_ne!(sample(&file(&bytes)).expect("a sample"), before, "{length}");
            bytes[length - 1] ^= 1;
            bytes[0] ^= 1;
            assert_ne!(sample(&file(&bytes)).expect("a sample"), before, "{length}");
        }
    }

    #[bounded::test]
    fn a_sample_of_nothing_is_no_error() {
        assert!(sample(&file(&[])).is_ok());
    }
}
