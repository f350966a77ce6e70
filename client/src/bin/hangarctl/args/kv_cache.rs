//! The size of a KV cache as an argument.

use bytesize::ByteSize;
use hangar_client::v1::kv_cache::Size;

/// Reads bytes such as `4GiB`, or a share such as `30%`.
pub(crate) fn kv_cache(text: &str) -> Result<Size, String> {
    let wrong = || format!("{text:?} is neither bytes such as 4GiB nor a share such as 30%");
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: f32 = percent.trim().parse().map_err(|_| wrong())?;
            Ok(Size::MemoryShare(percent / 100.0))
        }
        None => {
            let size: ByteSize = text.parse().map_err(|_| wrong())?;
            Ok(Size::Bytes(size.as_u64()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_cache_size_is_bytes_or_a_share() {
        assert_eq!(kv_cache("4GiB"), Ok(Size::Bytes(4 << 30)));
        assert_eq!(kv_cache("1048576"), Ok(Size::Bytes(1 << 20)));
        assert_eq!(kv_cache("50%"), Ok(Size::MemoryShare(0.5)));
        for text in ["", "%", "x%", "lots", "-1GiB"] {
            assert!(kv_cache(text).is_err(), "{text}");
        }
    }
}
