//! The cache of prepared weights on real directories.

use std::{fs, time::Duration};

use super::*;
use crate::model::Source;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// An entry of 1,000 bytes that was used so many seconds after the epoch.
fn entry(root: &Path, name: &str, used: u64) {
    let path = root.join(name);
    fs::create_dir(&path).expect("a directory");
    fs::write(path.join("weights-0.uqff"), vec![0; 998]).expect("a file");
    let manifest = path.join("manifest.json");
    fs::write(&manifest, "{}").expect("a file");
    let time = std::time::UNIX_EPOCH + Duration::from_secs(used);
    let file = fs::File::open(manifest).expect("the file");
    file.set_modified(time).expect("a time");
}

fn cache(root: &Path, limit: u64) -> Arc<PreparedCache> {
    PreparedCache::open(root.to_path_buf(), limit).expect("a cache")
}

fn lease(cache: &Arc<PreparedCache>, key: &str) -> PreparedLease {
    let model = ModelId::parse("m").expect("an id");
    let lease = cache.lease(&model, 7, key);
    lease.expect("a lease")
}

#[bounded::test]
fn what_was_not_used_for_longest_goes_first() {
    let root = tempfile::tempdir().expect("a directory");
    for (key, used) in [(A, 2), (B, 1), (C, 3)] {
        entry(root.path(), key, used);
    }
    let report = cache(root.path(), 2_500).report();
    assert_eq!((report.size, report.entries), (2_000, 2));
    assert!(!root.path().join(B).exists());
}

#[bounded::test]
fn leftovers_go_at_the_start_and_other_files_stay() {
    let root = tempfile::tempdir().expect("a directory");
    let leftovers = [format!("{A}.partial-12"), format!("{B}.removed")];
    for name in &leftovers {
        entry(root.path(), name, 1);
    }
    entry(root.path(), "notes", 1);
    assert_eq!(cache(root.path(), 0).report(), CacheReport::default());
    for name in &leftovers {
        assert!(!root.path().join(name).exists(), "{name}");
    }
    assert!(root.path().join("notes").exists());
}

#[bounded::test]
async fn an_entry_in_use_stays_until_its_worker_is_gone() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = cache(root.path(), 1_500);
    entry(root.path(), A, 1);
    let (one, two) = (lease(&cache, A), lease(&cache, A));
    entry(root.path(), B, 2);
    cache.tidy();
    assert!(root.path().join(A).exists());
    assert!(!root.path().join(B).exists());
    entry(root.path(), B, 2);
    one.end().await;
    assert!(root.path().join(A).exists());
    entry(root.path(), C, 3);
    two.end().await;
    assert!(!root.path().join(A).exists());
    assert_eq!(cache.report().entries, 1);
}

#[bounded::test]
async fn what_a_worker_did_not_finish_goes_with_it() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = cache(root.path(), 1_500);
    let lease = lease(&cache, A);
    entry(root.path(), &format!("{A}.partial-7"), 1);
    entry(root.path(), &format!("{A}.partial-8"), 1);
    lease.end().await;
    assert!(!root.path().join(format!("{A}.partial-7")).exists());
    assert!(root.path().join(format!("{A}.partial-8")).exists());
}

#[bounded::test]
async fn hits_and_misses_are_counted_by_what_the_load_did() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = cache(root.path(), 1_500);
    let lease = lease(&cache, A);
    lease.built(true).await;
    lease.built(false).await;
    lease.built(true).await;
    let report = cache.report();
    assert_eq!((report.hits, report.misses), (2, 1));
}

#[bounded::test]
async fn later_workers_of_quantized_models_are_given_what_was_checked() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = cache(root.path(), 1_500);
    lease(&cache, A).built(true).await;
    let mut spec = Spec::of(Source::Demo);
    assert_eq!(cache.access_for(&spec), None);
    spec.quantization = "q4k".parse().ok();
    let access = cache.access_for(&spec).expect("access");
    assert_eq!(access.verified, [A]);
    assert_eq!(access.capacity, 1_500);
    lease(&cache, A).built(false).await;
    let access = cache.access_for(&spec).expect("access");
    assert!(access.verified.is_empty());
}

#[bounded::test]
fn a_malformed_key_has_no_lease() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = cache(root.path(), 1_500);
    let model = ModelId::parse("m").expect("an id");
    for key in ["", "../../etc"] {
        let lease = cache.lease(&model, 7, key);
        assert!(lease.is_none(), "{key}");
    }
}
