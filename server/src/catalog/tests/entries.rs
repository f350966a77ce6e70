//! Entries come, change and go.

use super::{super::requests::REMEMBERED, *};

#[bounded::test]
async fn what_was_answered_survives_a_crash() {
    let fixture = TestCatalog::new();
    let created = fixture.create_with("m", &["a"]).await.expect("created");
    fixture
        .catalog
        .set_desired(&created.id, true)
        .await
        .expect("set");
    let left = fixture.after_a_crash();
    let entry = left.entry("a").await.expect("there");
    assert_eq!(
        (entry.uid, entry.etag, entry.version, entry.created),
        (created.uid, created.etag, 1, created.created)
    );
    assert!(entry.desired);
    assert_eq!(left.catalog.resolve(&id("a")), id("m"));
}

#[bounded::test]
async fn the_same_spec_again_changes_nothing() {
    let fixture = TestCatalog::new();
    let mut entries = Vec::new();
    for _ in 0..2 {
        let entry = fixture
            .catalog
            .register(id("m"), named("a"), OnConflict::Replace)
            .await;
        entries.push(entry.expect("registered"));
    }
    assert_eq!(entries[0].etag, entries[1].etag);
    assert_eq!((entries[0].version, entries[1].version), (1, 1));
    assert_eq!(entries[0].updated, entries[1].updated);
}

#[bounded::test]
async fn another_spec_is_a_conflict_or_a_new_version() {
    let fixture = TestCatalog::new();
    let first = fixture.create("m").await;
    let refused = fixture
        .catalog
        .register(id("m"), named("b"), OnConflict::Refuse)
        .await;
    assert!(matches!(refused, Err(RegisterError::Conflict(entry)) if entry.etag == first.etag));
    let second = fixture
        .catalog
        .register(id("m"), named("b"), OnConflict::Replace)
        .await
        .expect("replaced");
    assert_eq!((second.version, second.uid), (2, first.uid));
    assert_ne!(second.etag, first.etag);
    assert_eq!(second.created, first.created);
}

#[bounded::test]
async fn a_full_catalog_refuses_new_models_only() {
    let fixture = TestCatalog::with_capacity(1);
    fixture.create("m").await;
    let full = fixture.catalog.create(new("n"), None).await;
    assert!(matches!(full, Err(RegisterError::Full(1))));
    let replaced = fixture
        .catalog
        .register(id("m"), named("b"), OnConflict::Replace);
    assert!(replaced.await.is_ok());
    let gone = fixture.catalog.delete(&id("m"), None, false, None).await;
    assert!(gone.is_ok());
    fixture.create("n").await;
}

#[bounded::test]
async fn an_update_needs_the_current_etag() {
    let fixture = TestCatalog::new();
    let first = fixture.create("m").await;
    let updated = fixture
        .catalog
        .update(&first.id, change(&first, named("b")), None)
        .await
        .expect("updated");
    assert_eq!(
        (updated.before.etag, updated.after.version),
        (first.etag.clone(), 2)
    );
    let stale = fixture
        .catalog
        .update(&first.id, change(&first, named("c")), None)
        .await;
    assert!(matches!(stale, Err(UpdateError::Stale(etag)) if etag == updated.after.etag));
    let stale = fixture
        .catalog
        .delete(&first.id, Some(first.etag), false, None)
        .await;
    assert!(matches!(stale, Err(DeleteError::Stale(etag)) if etag == updated.after.etag));
    assert_eq!(fixture.entry("m").await.map(|entry| entry.version), Some(2));
}

#[bounded::test]
async fn an_etag_is_that_of_the_spec_and_of_one_entry_only() {
    let fixture = TestCatalog::new();
    let first = fixture.create("m").await;
    let second = fixture
        .catalog
        .update(&first.id, change(&first, named("b")), None)
        .await
        .expect("updated")
        .after;
    let third = fixture
        .catalog
        .update(&first.id, change(&second, named("m")), None)
        .await
        .expect("updated")
        .after;
    assert_eq!((third.etag, third.version), (first.etag.clone(), 3));
    fixture
        .catalog
        .delete(&first.id, None, false, None)
        .await
        .expect("deleted");
    assert_ne!(fixture.create("m").await.etag, first.etag);
}

#[bounded::test]
async fn what_is_desired_and_learned_touches_neither_version_nor_etag() {
    let fixture = TestCatalog::new();
    let first = fixture.create("m").await;
    fixture
        .catalog
        .set_desired(&first.id, true)
        .await
        .expect("set");
    let learned = Box::new(LearnedFacts {
        loads_succeeded: 3,
        ..LearnedFacts::default()
    });
    fixture
        .catalog
        .defer_write(&first.id, DeferredWrite::Learned(learned));
    let fixture = fixture.reopened().await;
    let entry = fixture.entry("m").await.expect("there");
    assert_eq!((entry.version, entry.etag), (1, first.etag));
    assert_eq!(entry.updated, first.updated);
    assert!(entry.desired && entry.learned.loads_succeeded == 3);
}

#[bounded::test]
async fn an_answer_is_remembered_with_its_change_or_not_at_all() {
    let fixture = TestCatalog::new();
    let key = RequestKey {
        principal: String::new(),
        method: "CreateModel",
        id: "r".to_owned(),
    };
    let remember = || ResponseToStore {
        key: key.clone(),
        digest: [7; 32],
        response: Box::new(|entry| entry.etag.0.clone().into_bytes()),
    };
    fixture.create_with("taken", &["m"]).await.expect("created");
    let refused = fixture.catalog.create(new("m"), Some(remember())).await;
    assert!(matches!(refused, Err(RegisterError::Taken(_))));
    assert_eq!(fixture.catalog.recall(&key).await, Ok(None));
    let created = fixture.catalog.create(new("n"), Some(remember())).await;
    let created = created.expect("created");
    let left = fixture.after_a_crash();
    let recalled = left.catalog.recall(&key).await.expect("readable");
    let recalled = recalled.expect("remembered");
    assert_eq!(recalled.digest, [7; 32]);
    assert_eq!(recalled.response, created.etag.0.into_bytes());
}

#[bounded::test]
async fn answers_are_bounded() {
    let fixture = TestCatalog::new();
    let key = |n: i64| RequestKey {
        principal: String::new(),
        method: "LoadModel",
        id: n.to_string(),
    };
    let write = fixture.catalog.write(move |change| {
        for n in 0..REMEMBERED + 5 {
            let remembered = StoredResponse {
                digest: [0; 32],
                response: Vec::new(),
            };
            requests::write(change.connection(), &key(n), &remembered)?;
        }
        Ok(())
    });
    write.await.expect("written");
    let kept = fixture
        .catalog
        .read(|connection| {
            connection.query_row("SELECT count(*) FROM requests", [], |row| row.get(0))
        })
        .await;
    assert_eq!(kept, Ok(REMEMBERED));
    assert_eq!(fixture.catalog.recall(&key(0)).await, Ok(None));
    let last = fixture.catalog.recall(&key(REMEMBERED + 4)).await;
    assert!(last.is_ok_and(|found| found.is_some()));
}

#[bounded::test]
async fn a_closed_catalog_fails_and_does_not_hang() {
    let fixture = TestCatalog::new();
    fixture.create("m").await;
    fixture.catalog.close().await;
    fixture.catalog.close().await;
    assert!(matches!(
        fixture.catalog.get(&id("m")).await,
        Err(StorageError::Failed(_))
    ));
    assert!(matches!(
        fixture.catalog.create(new("n"), None).await,
        Err(RegisterError::Storage(StorageError::Failed(_)))
    ));
    fixture
        .catalog
        .defer_write(&id("m"), DeferredWrite::Suspended(None));
    assert!(!fixture.directory.path().join("catalog.db-wal").exists());
}
