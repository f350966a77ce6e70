//! Snapshots that are made, found, and not believed.

use super::*;

const COMMIT: &str = "0123456789012345678901234567890123456789";

fn source(revision: &str, files: &[&str]) -> HubSource {
    HubSource {
        repository: "a/b".parse().unwrap(),
        revision: revision.to_owned(),
        files: files.iter().map(ToString::to_string).collect(),
    }
}

fn files(repository: &Repository, names: &[&str]) -> Vec<HubFile> {
    fs::create_dir_all(repository.root.join("blobs")).unwrap();
    let file = |name: &&str| {
        let file = HubFile {
            name: (*name).to_owned(),
            size: 1,
            blob: name.replace(['/', '.'], "_"),
        };
        fs::write(repository.blob(&file), "x").unwrap();
        file
    };
    names.iter().map(file).collect()
}

fn cache() -> (tempfile::TempDir, Repository) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let repository = Repository::new(&path, "a/b");
    (directory, repository)
}

#[bounded::test]
async fn a_published_snapshot_is_found_by_revision_and_by_commit() {
    let (_directory, repository) = cache();
    let names = ["config.json", "model.safetensors", "1_Pooling/config.json"];
    let files = files(&repository, &names);
    let made = repository
        .publish(&source("refs/pr/1", &[]), COMMIT.to_owned(), files)
        .await
        .unwrap();
    assert_eq!(
        fs::read(made.path.join("1_Pooling/config.json")).unwrap(),
        b"x"
    );
    for revision in ["refs/pr/1", COMMIT] {
        let wanted = source(revision, &[]);
        let found = repository.find(&wanted, Completeness::Recorded).await;
        assert_eq!(found.unwrap(), Some(made.clone()), "{revision}");
    }
    let other = source("main", &[]);
    let other = repository.find(&other, Completeness::Any).await;
    assert_eq!(other.unwrap(), None);
}

#[bounded::test]
async fn a_snapshot_of_some_files_is_not_one_of_all() {
    let (_directory, repository) = cache();
    let files = files(&repository, &["m.gguf"]);
    let wanted = source("main", &["m.gguf"]);
    let made = repository.publish(&wanted, COMMIT.to_owned(), files);
    assert!(made.await.unwrap().path.ends_with("m.gguf"));
    assert!(
        repository
            .find(&wanted, Completeness::Recorded)
            .await
            .unwrap()
            .is_some()
    );
    for completeness in [Completeness::Recorded, Completeness::Any] {
        let all = repository.find(&source("main", &[]), completeness).await;
        assert_eq!(all.unwrap(), None, "{completeness:?}");
    }
}

#[bounded::test]
async fn a_record_that_is_empty_or_cut_off_is_none() {
    let (_directory, repository) = cache();
    let names = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    let files = files(&repository, &names);
    let wanted = source("main", &[]);
    let made = repository
        .publish(&wanted, COMMIT.to_owned(), files)
        .await
        .unwrap();
    let record = repository.root.join("complete").join(COMMIT);
    let find = async || {
        repository
            .find(&wanted, Completeness::Recorded)
            .await
            .unwrap()
    };
    for left in 0..names.len() {
        fs::write(&record, names[..left].join("\n")).unwrap();
        assert_eq!(find().await, None, "{left}");
    }
    fs::write(&record, names.join("\n")).unwrap();
    assert_eq!(find().await, Some(made));
}

#[bounded::test]
async fn what_others_have_filled_in_is_taken_when_it_can_be_loaded() {
    let (_directory, repository) = cache();
    for file in files(&repository, &["config.json", "model.safetensors"]) {
        repository.link(COMMIT, &file).unwrap();
    }
    let wanted = source(COMMIT, &[]);
    assert_eq!(
        repository
            .find(&wanted, Completeness::Recorded)
            .await
            .unwrap(),
        None
    );
    assert!(
        repository
            .find(&wanted, Completeness::Any)
            .await
            .unwrap()
            .is_some()
    );
}

#[bounded::test]
async fn links_that_lead_out_of_the_repository_are_not_followed() {
    let (directory, repository) = cache();
    let files = files(&repository, &["config.json", "model.safetensors"]);
    let wanted = source("main", &[]);
    let made = repository
        .publish(&wanted, COMMIT.to_owned(), files)
        .await
        .unwrap();
    let outside = directory.path().join("outside");
    fs::write(&outside, "x").unwrap();
    fs::remove_file(made.path.join("config.json")).unwrap();
    symlink(outside, made.path.join("config.json")).unwrap();
    assert_eq!(
        repository.find(&wanted, Completeness::Any).await.unwrap(),
        None
    );
}
