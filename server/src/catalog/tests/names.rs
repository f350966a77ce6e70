//! Ids and aliases are one name space.

use super::*;

fn taken(result: Result<CatalogEntry, RegisterError>) -> (String, String) {
    match result {
        Err(RegisterError::Taken(taken)) => (taken.name.to_string(), taken.by.to_string()),
        other => panic!("not refused: {other:?}"),
    }
}

#[bounded::test]
async fn a_name_is_given_once() {
    let fixture = TestCatalog::new();
    fixture
        .create_with("m", &["a", "b"])
        .await
        .expect("created");
    let pair = |name: &str| (name.to_owned(), "m".to_owned());
    assert_eq!(taken(fixture.create_with("m", &[]).await), pair("m"));
    assert_eq!(taken(fixture.create_with("a", &[]).await), pair("a"));
    assert_eq!(taken(fixture.create_with("n", &["b"]).await), pair("b"));
    assert_eq!(taken(fixture.create_with("n", &["m"]).await), pair("m"));
    let own = fixture.create_with("n", &["n"]).await;
    assert_eq!(taken(own), ("n".to_owned(), "n".to_owned()));
    assert_eq!(fixture.ids().await, ["m"]);
}

#[bounded::test]
async fn the_tables_themselves_refuse_a_name_that_is_taken() {
    let fixture = TestCatalog::new();
    fixture.create_with("m", &["a"]).await.expect("created");
    for statement in [
        "INSERT INTO aliases VALUES ('m', 'm')",
        "INSERT INTO models SELECT 'a', uid, spec, version, etag, origin, created, updated, source, kind, required, \
         preload, priority, desired, suspended, attempt, learned FROM models",
    ] {
        let refused = fixture
            .catalog
            .write(move |change| change.connection().execute(statement, []))
            .await;
        assert!(
            matches!(&refused, Err(StorageError::Failed(why)) if why.contains("the ")),
            "{refused:?}"
        );
    }
}

#[bounded::test]
async fn ids_that_differ_in_case_are_different_models() {
    let fixture = TestCatalog::new();
    fixture
        .create_with("Model", &["ALIAS"])
        .await
        .expect("created");
    fixture
        .create_with("model", &["alias"])
        .await
        .expect("created");
    assert_eq!(fixture.ids().await, ["Model", "model"]);
    let entry = fixture.entry("ALIAS").await.expect("there");
    assert_eq!(entry.id, id("Model"));
}

#[bounded::test]
async fn an_alias_stands_for_its_model() {
    let fixture = TestCatalog::new();
    fixture
        .create_with("m", &["z", "a", "a"])
        .await
        .expect("created");
    let entry = fixture.entry("z").await.expect("there");
    assert_eq!((entry.id, entry.aliases), (id("m"), vec![id("a"), id("z")]));
    assert_eq!(fixture.catalog.resolve(&id("a")), id("m"));
    assert_eq!(fixture.catalog.resolve(&id("m")), id("m"));
    assert_eq!(fixture.catalog.resolve(&id("unknown")), id("unknown"));
    let registered = fixture
        .catalog
        .register(id("a"), named("new"), OnConflict::Replace)
        .await
        .expect("registered");
    assert_eq!((registered.id, registered.version), (id("m"), 2));
}

#[bounded::test]
async fn aliases_change_without_a_new_version() {
    let fixture = TestCatalog::new();
    let first = fixture
        .create_with("m", &["a", "b"])
        .await
        .expect("created");
    let updated = fixture
        .catalog
        .update(
            &first.id,
            EntryChange {
                etag: first.etag.clone(),
                spec: None,
                aliases: Some(vec![id("b"), id("c")]),
            },
            None,
        )
        .await
        .expect("updated");
    assert_eq!(updated.after.aliases, [id("b"), id("c")]);
    assert_eq!((updated.after.etag, updated.after.version), (first.etag, 1));
    assert_eq!(fixture.catalog.resolve(&id("a")), id("a"));
    assert_eq!(fixture.catalog.resolve(&id("c")), id("m"));
    assert!(fixture.entry("a").await.is_none());
}

#[bounded::test]
async fn a_refused_change_leaves_all_names_as_they_were() {
    let fixture = TestCatalog::new();
    fixture.create("other").await;
    let first = fixture.create_with("m", &["a"]).await.expect("created");
    let refused = fixture
        .catalog
        .update(
            &first.id,
            EntryChange {
                etag: first.etag,
                spec: Some(named("new")),
                aliases: Some(vec![id("b"), id("other")]),
            },
            None,
        )
        .await;
    assert!(matches!(refused, Err(UpdateError::Taken(taken)) if taken.name == id("other")));
    assert_eq!(fixture.catalog.resolve(&id("a")), id("m"));
    assert_eq!(fixture.catalog.resolve(&id("b")), id("b"));
    assert_eq!(fixture.entry("m").await.map(|entry| entry.version), Some(1));
}

#[bounded::test]
async fn a_model_with_aliases_goes_by_force_only() {
    let fixture = TestCatalog::new();
    let first = fixture.create_with("m", &["a"]).await.expect("created");
    let refused = fixture.catalog.delete(&first.id, None, false, None).await;
    assert!(matches!(refused, Err(DeleteError::Aliased(aliases)) if aliases == [id("a")]));
    let by_alias = fixture.catalog.delete(&id("a"), None, true, None).await;
    assert!(matches!(by_alias, Err(DeleteError::Unknown)));
    let gone = fixture.catalog.delete(&first.id, None, true, None).await;
    assert_eq!(gone.map(|entry| entry.uid).ok(), Some(first.uid));
    assert_eq!(fixture.catalog.resolve(&id("a")), id("a"));
    fixture.create("a").await;
}
