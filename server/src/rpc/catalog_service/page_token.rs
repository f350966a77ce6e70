//! Page tokens: where a page ended, signed.
//!
//! A token holds for the filter and the order that it was given with, and for the catalog that gave it;
//! no other text is one.

use hangar_client::v1::{ListModelsRequest, ModelOrder};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::{catalog::ListPosition, model::ModelId};

/// Bytes of a signature.
const SIGNATURE: usize = 16;

/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;

/// The token of the page of `request` that begins behind `position`.
pub(super) fn write(
    key: &[u8; 32],
    request: &ListModelsRequest,
    position: &ListPosition,
) -> String {
    let position_bytes = encode_position(position);
    let signature = sign(key, request, &position_bytes);
    let bytes = signature.iter().chain(&position_bytes);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// Where the page of `request` begins. `None` when its token was not given for it.
pub(super) fn read(key: &[u8; 32], request: &ListModelsRequest) -> Option<ListPosition> {
    let bytes = unhex(&request.page_token)?;
    let (signature, position_bytes) = bytes.split_at_checked(SIGNATURE)?;
    let expected = sign(key, request, position_bytes);
    let differences = signature
        .iter()
        .zip(expected)
        .fold(0, |all, (a, b)| all | (a ^ b));
    if differences != 0 {
        return None;
    }
    let (micros, id) = position_bytes.split_first_chunk()?;
    Some(ListPosition {
        key: i64::from_be_bytes(*micros),
        id: ModelId::parse(std::str::from_utf8(id).ok()?).ok()?,
    })
}

fn encode_position(position: &ListPosition) -> Vec<u8> {
    let mut position_bytes = position.key.to_be_bytes().to_vec();
    position_bytes.extend(position.id.as_str().bytes());
    position_bytes
}

/// HMAC-SHA256 (RFC 2104), cut to [`SIGNATURE`] bytes.
fn sign(key: &[u8; 32], request: &ListModelsRequest, position_bytes: &[u8]) -> [u8; SIGNATURE] {
    let list = ListModelsRequest {
        page_size: 0,
        page_token: String::new(),
        order_by: match request.order_by() {
            ModelOrder::Unspecified => ModelOrder::Id.into(),
            order => order.into(),
        },
        filter: Some(request.filter.clone().unwrap_or_default()),
        ..request.clone()
    };
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(list.encode_length_delimited_to_vec())
        .chain_update(position_bytes)
        .finalize();
    let outer = Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize();
    let mut signature = [0; SIGNATURE];
    signature.copy_from_slice(&outer[..SIGNATURE]);
    signature
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    pairs
        .iter()
        .map(byte)
        .collect::<Option<_>>()
        .filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::ModelFilter;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn position() -> ListPosition {
        ListPosition {
            key: 1_234_567,
            id: ModelId::parse("Qwen/Qwen3-0.6B").expect("a well-formed id"),
        }
    }

    fn request() -> ListModelsRequest {
        let labels = [("team".to_owned(), "a".to_owned())];
        ListModelsRequest {
            filter: Some(ModelFilter {
                labels: labels.into(),
                ..ModelFilter::default()
            }),
            order_by: ModelOrder::CreateTime.into(),
            ..ListModelsRequest::default()
        }
    }

    fn with(token: &str, request: ListModelsRequest) -> ListModelsRequest {
        ListModelsRequest {
            page_token: token.to_owned(),
            ..request
        }
    }

    #[bounded::test]
    fn a_token_gives_its_position_whatever_the_size_of_pages() {
        let token = write(&KEY, &request(), &position());
        let next = ListModelsRequest {
            page_size: 7,
            ..with(&token, request())
        };
        assert_eq!(read(&KEY, &next), Some(position()));
    }

    #[bounded::test]
    fn an_order_that_is_not_given_is_that_by_id() {
        let token = write(&KEY, &ListModelsRequest::default(), &position());
        let by_id = ListModelsRequest {
            order_by: ModelOrder::Id.into(),
            filter: Some(ModelFilter::default()),
            ..ListModelsRequest::default()
        };
        assert_eq!(read(&KEY, &with(&token, by_id)), Some(position()));
    }

    #[bounded::test]
    fn a_token_of_another_list_or_catalog_is_none() {
        let token = write(&KEY, &request(), &position());
        let others = [
            ListModelsRequest {
                filter: None,
                ..request()
            },
            ListModelsRequest {
                order_by: ModelOrder::UpdateTime.into(),
                ..request()
            },
            ListModelsRequest {
                descending: true,
                ..request()
            },
        ];
        for other in others {
            assert_eq!(read(&KEY, &with(&token, other)), None);
        }
        assert_eq!(read(&[8; 32], &with(&token, request())), None);
    }

    #[bounded::test]
    fn a_token_that_was_changed_anywhere_is_none() {
        let token = write(&KEY, &request(), &position());
        for n in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[n] = if forged[n] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).expect("ASCII");
            assert_eq!(read(&KEY, &with(&forged, request())), None, "{n}");
            assert_eq!(read(&KEY, &with(&token[..n], request())), None, "{n}");
        }
        for text in ["x", "00", "é", &token.to_uppercase(), &format!("{token}00")] {
            assert_eq!(read(&KEY, &with(text, request())), None, "{text}");
        }
    }
}
