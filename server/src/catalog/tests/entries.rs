//! Entries come, change and go.

use super::*;

#[tokio::test]
async fn what_was_answered_survives_a_crash() {
    let lab = Lab::new();
    let created = lab.create_with("m", &["a"]).await.expect("created");
    lab.catalog
        .set_desired(&created.id, true)
        .await
        .expect("set");
    let left = lab.after_a_crash();
    let entry = left.entry("a").await.expect("there");
    assert_eq!(
        (entry.uid, entry.etag, entry.version, entry.created),
        (created.uid, created.etag, 1, created.created)
    );
    assert!(entry.desired);
    assert_eq!(left.catalog.resolve(&id("a")), id("m"));
}

#[tokio::test]
async fn the_same_spec_again_changes_nothing() {
    let lab = Lab::new();
    let mut entries = Vec::new();
    for _ in 0..2 {
        let entry = lab
            .catalog
            .register(id("m"), named("a"), OnConflict::Replace)
            .await;
        entries.push(entry.expect("registered"));
    }
    assert_eq!(entries[0].etag, entries[1].etag);
    assert_eq!((entries[0].version, entries[1].version), (1, 1));
    assert_eq!(entries[0].updated, entries[1].updated);
}

#[tokio::test]
async fn another_spec_is_a_conflict_or_a_new_version() {
    let lab = Lab::new();
    let first = lab.create("m").await;
    let refused = lab
        .catalog
        .register(id("m"), named("b"), OnConflict::Refuse)
        .await;
    assert!(matches!(refused, Err(RegisterError::Conflict(entry)) if entry.etag == first.etag));
    let second = lab
        .catalog
        .register(id("m"), named("b"), OnConflict::Replace)
        .await
        .expect("replaced");
    assert_eq!((second.version, second.uid), (2, first.uid));
    assert_ne!(second.etag, first.etag);
    assert_eq!(second.created, first.created);
}

#[tokio::test]
async fn a_full_catalog_refuses_new_models_only() {
    let lab = Lab::with_capacity(1);
    lab.create("m").await;
    let full = lab.catalog.create(new("n"), None).await;
    assert!(matches!(full, Err(RegisterError::Full(1))));
    let replaced = lab
        .catalog
        .register(id("m"), named("b"), OnConflict::Replace);
    assert!(replaced.await.is_ok());
    let gone = lab.catalog.delete(&id("m"), None, false, None).await;
    assert!(gone.is_ok());
    lab.create("n").await;
}

#[tokio::test]
async fn an_update_needs_the_current_etag() {
    let lab = Lab::new();
    let first = lab.create("m").await;
    let updated = lab
        .catalog
        .update(&first.id, change(&first, named("b")), None)
        .await
        .expect("updated");
    assert_eq!(
        (updated.before.etag, updated.after.version),
        (first.etag.clone(), 2)
    );
    let stale = lab
        .catalog
        .update(&first.id, change(&first, named("c")), None)
        .await;
    assert!(matches!(stale, Err(UpdateError::Stale(etag)) if etag == updated.after.etag));
    let stale = lab
        .catalog
        .delete(&first.id, Some(first.etag), false, None)
        .await;
    assert!(matches!(stale, Err(DeleteError::Stale(etag)) if etag == updated.after.etag));
    assert_eq!(lab.entry("m").await.map(|entry| entry.version), Some(2));
}

#[tokio::test]
async fn an_etag_is_that_of_the_spec_and_of_one_entry_only() {
    let lab = Lab::new();
    let first = lab.create("m").await;
    let second = lab
        .catalog
        .update(&first.id, change(&first, named("b")), None)
        .await
        .expect("updated")
        .after;
    let third = lab
        .catalog
        .update(&first.id, change(&second, named("m")), None)
        .await
        .expect("updated")
        .after;
    assert_eq!((third.etag, third.version), (first.etag.clone(), 3));
    lab.catalog
        .delete(&first.id, None, false, None)
        .await
        .expect("deleted");
    assert_ne!(lab.create("m").await.etag, first.etag);
}

#[tokio::test]
async fn what_is_desired_and_learned_touches_neither_version_nor_etag() {
    let lab = Lab::new();
    let first = lab.create("m").await;
    lab.catalog.set_desired(&first.id, true).await.expect("set");
    let learned = Box::new(Learned {
        loads_succeeded: 3,
        ..Learned::default()
    });
    lab.catalog.note(&first.id, Note::Learned(learned));
    let lab = lab.reopened().await;
    let entry = lab.entry("m").await.expect("there");
    assert_eq!((entry.version, entry.etag), (1, first.etag));
    assert_eq!(entry.updated, first.updated);
    assert!(entry.desired && entry.learned.loads_succeeded == 3);
}

#[tokio::test]
async fn an_answer_is_remembered_with_its_change_or_not_at_all() {
    let lab = Lab::new();
    let key = RequestKey {
        principal: String::new(),
        method: "CreateModel",
        id: "r".to_owned(),
    };
    let remember = || Remember {
        key: key.clone(),
        digest: [7; 32],
        answer: Box::new(|entry| entry.etag.0.clone().into_bytes()),
    };
    lab.create_with("taken", &["m"]).await.expect("created");
    let refused = lab.catalog.create(new("m"), Some(remember())).await;
    assert!(matches!(refused, Err(RegisterError::Taken(_))));
    assert_eq!(lab.catalog.recall(&key).await, Ok(None));
    let created = lab.catalog.create(new("n"), Some(remember())).await;
    let created = created.expect("created");
    let left = lab.after_a_crash();
    let recalled = left.catalog.recall(&key).await.expect("readable");
    let recalled = recalled.expect("remembered");
    assert_eq!(recalled.digest, [7; 32]);
    assert_eq!(recalled.answer, created.etag.0.into_bytes());
}

#[tokio::test]
async fn answers_are_bounded() {
    let lab = Lab::new();
    let key = |n: i64| RequestKey {
        principal: String::new(),
        method: "LoadModel",
        id: n.to_string(),
    };
    let write = lab.catalog.write(move |change| {
        for n in 0..REMEMBERED + 5 {
            let remembered = Remembered {
                digest: [0; 32],
                answer: Vec::new(),
            };
            requests::write(change.connection(), &key(n), &remembered)?;
        }
        Ok(())
    });
    write.await.expect("written");
    let kept = lab
        .catalog
        .read(|connection| {
            connection.query_row("SELECT count(*) FROM requests", [], |row| row.get(0))
        })
        .await;
    assert_eq!(kept, Ok(REMEMBERED));
    assert_eq!(lab.catalog.recall(&key(0)).await, Ok(None));
    let last = lab.catalog.recall(&key(REMEMBERED + 4)).await;
    assert!(last.is_ok_and(|found| found.is_some()));
}

#[tokio::test]
async fn a_closed_catalog_fails_and_does_not_hang() {
    let lab = Lab::new();
    lab.create("m").await;
    lab.catalog.close().await;
    lab.catalog.close().await;
    assert!(matches!(
        lab.catalog.get(&id("m")).await,
        Err(StorageError::Failed(_))
    ));
    assert!(matches!(
        lab.catalog.create(new("n"), None).await,
        Err(RegisterError::Storage(StorageError::Failed(_)))
    ));
    lab.catalog.note(&id("m"), Note::Suspended(None));
    assert!(!lab.directory.path().join("catalog.db-wal").exists());
}
