//! Length-delimited messages on pipes.

use std::io::{self, Read};

use prost::Message;

/// Longest message that is read.
const LIMIT: usize = 16 << 20;

/// Reads one message: a varint with its length, then its bytes.
pub(super) fn read<M: Message + Default>(input: &mut impl Read) -> io::Result<M> {
    let mut prefix = Vec::new();
    loop {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        prefix.extend(byte);
        if byte[0] < 0x80 {
            break;
        }
    }
    let length = prost::decode_length_delimiter(prefix.as_slice())?;
    if length > LIMIT {
        return Err(io::Error::other("message too long"));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(M::decode(bytes.as_slice())?)
}

#[cfg(test)]
mod tests {
    use hangar_client::worker::v1::WorkerConfig;

    use super::*;

    #[test]
    fn a_frame_is_read_and_what_follows_is_left() -> io::Result<()> {
        let config = WorkerConfig {
            model_id: "m".repeat(300),
            ..WorkerConfig::default()
        };
        let mut bytes = config.encode_length_delimited_to_vec();
        bytes.extend(b"rest");
        let mut input = bytes.as_slice();
        assert_eq!(read::<WorkerConfig>(&mut input)?, config);
        assert_eq!(input, b"rest");
        Ok(())
    }
}
