//! Parts that are broken off, taken up, finished and refused.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::*;

const CONTENTS: &[u8] = b"the contents of a file";

fn target(directory: &Path) -> Target {
    let digest = Sha256::digest(CONTENTS);
    Target {
        part: directory.join("x.incomplete"),
        blob: directory.join("x"),
        size: CONTENTS.len() as u64,
        sha256: Some(digest.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

async fn open(target: &Target) -> Result<PartialFile, PartialFileError> {
    let guard = Arc::new(Arc::new(Mutex::new(())).lock_owned().await);
    PartialFile::open(target.clone(), &TaskTracker::new(), guard).await
}

/// Waits until the writer has written what it was given.
async fn stop(part: PartialFile) {
    let PartialFile {
        commands, writer, ..
    } = part;
    drop(commands);
    writer.await.unwrap().unwrap();
}

#[bounded::test]
async fn a_part_that_was_left_is_taken_up_and_finished() {
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let mut part = open(&target).await.unwrap();
    part.append(Bytes::from_static(&CONTENTS[..5]))
        .await
        .unwrap();
    stop(part).await;
    let mut part = open(&target).await.unwrap();
    assert_eq!(part.len(), 5);
    part.append(Bytes::from_static(&CONTENTS[5..]))
        .await
        .unwrap();
    part.finish().await.unwrap();
    assert_eq!(fs::read(&target.blob).unwrap(), CONTENTS);
    assert!(!target.part.exists());
}

#[bounded::test]
async fn what_is_not_what_was_announced_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let wrong = vec![0; CONTENTS.len()];
    for contents in [&wrong[..], &CONTENTS[..3]] {
        let mut part = open(&target).await.unwrap();
        part.append(Bytes::copy_from_slice(contents)).await.unwrap();
        assert!(matches!(
            part.finish().await,
            Err(PartialFileError::Corrupt)
        ));
        assert!(!target.part.exists() && !target.blob.exists());
    }
}

#[bounded::test]
async fn a_part_that_is_too_long_begins_from_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    fs::write(&target.part, [CONTENTS, CONTENTS].concat()).unwrap();
    assert_eq!(open(&target).await.unwrap().len(), 0);
}

#[bounded::test]
async fn a_part_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let target = target(directory.path());
    let first = open(&target).await.unwrap();
    assert!(matches!(open(&target).await, Err(PartialFileError::Busy)));
    stop(first).await;
    open(&target).await.unwrap();
}
