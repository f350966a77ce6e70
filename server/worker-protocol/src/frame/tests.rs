//! Frames that are whole, cut off or too long.

use proptest::prelude::*;

use super::*;
use crate::v1::WorkerConfig;

fn config(name: String) -> WorkerConfig {
    WorkerConfig {
        model_id: name,
        ..WorkerConfig::default()
    }
}

/// What both ways of reading make of `bytes`.
async fn both(mut bytes: &[u8]) -> [Result<WorkerConfig, FrameError>; 2] {
    let mut again = bytes;
    [read(&mut bytes), receive(&mut again).await]
}

#[bounded::test]
async fn a_message_survives_the_frame_and_what_follows_is_left() {
    let config = config("m".repeat(300));
    let (mut written, mut sent) = (Vec::new(), Vec::new());
    write(&mut written, &config).expect("written");
    send(&mut sent, &config).await.expect("sent");
    assert_eq!(written, sent);
    written.extend(b"rest");
    let mut input = written.as_slice();
    assert_eq!(read::<WorkerConfig>(&mut input).expect("read"), config);
    assert_eq!(input, b"rest");
    let mut input = written.as_slice();
    let received = receive::<WorkerConfig>(&mut input).await;
    assert_eq!(received.expect("received"), config);
    assert_eq!(input, b"rest");
}

#[bounded::test]
async fn a_length_that_is_huge_or_endless_is_refused_before_it_is_allocated() {
    for bytes in [
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..],
        &[0xff, 0xff, 0xff, 0x7f],
        &[0x80; 20],
        &[0xff; 20],
    ] {
        for result in both(bytes).await {
            assert!(matches!(result, Err(FrameError::Malformed(_))), "{bytes:?}");
        }
    }
}

#[bounded::test]
async fn what_is_no_message_is_malformed() {
    for result in both(b"\x03abc").await {
        assert!(matches!(result, Err(FrameError::Malformed(_))));
    }
}

#[bounded::test]
async fn a_cut_message_and_none_at_all_are_distinguished() {
    for bytes in [&[5, 1, 2][..], &[0x80]] {
        for result in both(bytes).await {
            assert!(matches!(result, Err(FrameError::CutOff)), "{bytes:?}");
        }
    }
    for result in both(&[]).await {
        assert!(matches!(result, Err(FrameError::Empty)));
    }
}

proptest! {
    #[bounded::test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = read::<WorkerConfig>(&mut bytes.as_slice());
    }
}
