//! Tests of the parser: intact files, and every length and count that a file can lie about.

use proptest::prelude::*;

use super::*;

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn start(tensors: u64, values: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(values.to_le_bytes());
    bytes
}

fn value(name: &str, kind: u32, content: &[u8]) -> Vec<u8> {
    [text(name), kind.to_le_bytes().to_vec(), content.to_vec()].concat()
}

fn tensor(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend((shape.len() as u32).to_le_bytes());
    bytes.extend(shape.iter().flat_map(|size| size.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

fn intact() -> Vec<u8> {
    let list = [
        8u32.to_le_bytes().to_vec(),
        2u64.to_le_bytes().to_vec(),
        text("a"),
        text("b"),
    ];
    let mut bytes = [
        start(1, 3),
        value("name", 8, &text("tiny")),
        value("layers", 4, &2u32.to_le_bytes()),
        value("tokens", 9, &list.concat()),
        tensor("w", &[32, 2], 8, 0),
    ]
    .concat();
    bytes.resize(bytes.len().next_multiple_of(32) + 68, 0);
    bytes
}

fn parse(bytes: &[u8]) -> Result<Header, String> {
    Header::read(bytes, bytes.len() as u64)
}

fn refused(bytes: &[u8]) -> String {
    parse(bytes).expect_err("refused")
}

#[bounded::test]
fn an_intact_header_is_read() {
    let header = parse(&intact()).expect("a header");
    assert_eq!(header.text("name"), Some("tiny"));
    assert_eq!(header.number("layers"), Some(2));
    assert_eq!(header.values["tokens"], Value::List(2));
    assert_eq!(
        (header.tensors[0].elements, header.tensors[0].bytes),
        (64, 68)
    );
}

#[bounded::test]
fn scores_may_be_whole_numbers() {
    let list = |kind: u32, scores: [[u8; 4]; 2]| {
        let list = [kind.to_le_bytes().to_vec(), 2u64.to_le_bytes().to_vec()];
        let list = [list.concat(), scores.concat()].concat();
        let bytes = [start(0, 1), value(SCORES, 9, &list)].concat();
        parse(&bytes).expect("a header").values[SCORES].clone()
    };
    let expected = Value::Scores(vec![-1.0, 2.0]);
    assert_eq!(list(5, [-1, 2].map(i32::to_le_bytes)), expected);
    assert_eq!(list(6, [-1.0, 2.0].map(f32::to_le_bytes)), expected);
}

#[bounded::test]
fn every_cut_is_noticed() {
    let bytes = intact();
    for length in 0..bytes.len() {
        assert!(parse(&bytes[..length]).is_err(), "cut to {length} bytes");
    }
}

#[bounded::test]
fn a_file_that_is_no_gguf_is_refused_for_what_it_is() {
    assert!(refused(b"").contains("empty"));
    assert!(refused(b"PK\x03\x04 and so on").contains("begin"));
    let mut other = intact();
    other[4..8].copy_from_slice(&3u32.to_be_bytes());
    assert!(refused(&other).contains("big-endian"));
    other[4..8].copy_from_slice(&9u32.to_le_bytes());
    assert!(refused(&other).contains("version 9"));
}

#[bounded::test]
fn huge_counts_and_lengths_are_refused() {
    for huge in [u64::MAX, 1 << 62, 1 << 45, 1 << 33] {
        assert!(parse(&start(huge, 0)).is_err());
        assert!(parse(&start(0, huge)).is_err());
        let name = [start(0, 1), huge.to_le_bytes().to_vec(), vec![0; 64]].concat();
        assert!(parse(&name).is_err());
        let content = [huge.to_le_bytes().to_vec(), vec![0; 64]].concat();
        assert!(parse(&[start(0, 1), value("a", 8, &content)].concat()).is_err());
        for kind in [0u32, 4, 8, 9, 12] {
            let list = [
                kind.to_le_bytes().to_vec(),
                huge.to_le_bytes().to_vec(),
                vec![0; 64],
            ];
            assert!(parse(&[start(0, 1), value("a", 9, &list.concat())].concat()).is_err());
        }
        let tensors = [start(1, 0), tensor("w", &[huge, huge], 0, 0), vec![0; 64]].concat();
        assert!(parse(&tensors).is_err());
        let tensors = [start(1, 0), tensor("w", &[1], 0, huge), vec![0; 64]].concat();
        assert!(parse(&tensors).is_err());
    }
}

#[bounded::test]
fn unknown_types_and_deep_lists_are_refused() {
    assert!(refused(&[start(0, 1), value("a", 77, &[0; 64])].concat()).contains("77"));
    let tensors = [start(1, 0), tensor("w", &[1], 77, 0), vec![0; 64]].concat();
    assert!(refused(&tensors).contains("77"));
    let one = [9u32.to_le_bytes().to_vec(), 1u64.to_le_bytes().to_vec()].concat();
    let list = [one.repeat(50), vec![0; 64]].concat();
    assert!(refused(&[start(0, 1), value("a", 9, &list)].concat()).contains("nested"));
}

#[bounded::test]
fn an_absurd_alignment_is_refused_or_harmless() {
    for alignment in [0u64, 1, u64::MAX] {
        let bytes = [
            start(1, 1),
            value("general.alignment", 10, &alignment.to_le_bytes()),
            tensor("w", &[1], 0, 0),
            vec![0; 64],
        ]
        .concat();
        let _ = parse(&bytes);
    }
}

proptest! {
    #[bounded::test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let _ = parse(&[start(1, 1), bytes].concat());
    }

    #[bounded::test]
    fn a_changed_byte_never_panics(at in 0usize..200, to in any::<u8>()) {
        let mut bytes = intact();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = parse(&bytes);
    }
}
