//! Models that the configuration file declares.

use super::*;

fn declared(name: &str, aliases: &[&str]) -> NewEntry {
    NewEntry {
        aliases: aliases.iter().map(|alias| id(alias)).collect(),
        origin: ModelOrigin::File,
        ..new(name)
    }
}

#[bounded::test]
async fn the_files_entries_become_exactly_those_declared() {
    let fixture = TestCatalog::new();
    fixture.create("api").await;
    let first = vec![declared("a", &["x"]), declared("b", &["y"])];
    fixture.catalog.declare(first).await.expect("declared");
    let b = fixture.entry("b").await.expect("there");
    let second = vec![declared("b", &["x"]), declared("c", &[])];
    fixture.catalog.declare(second).await.expect("declared");
    assert_eq!(fixture.ids().await, ["api", "b", "c"]);
    let again = fixture.entry("x").await.expect("there");
    assert_eq!((again.uid, again.version, again.etag), (b.uid, 1, b.etag));
    assert_eq!(fixture.catalog.resolve(&id("y")), id("y"));
    assert_eq!(
        fixture.entry("api").await.map(|entry| entry.origin),
        Some(ModelOrigin::Api)
    );
}

#[bounded::test]
async fn declared_models_can_swap_aliases() {
    let fixture = TestCatalog::new();
    for (x, y) in [("x", "y"), ("y", "x")] {
        let entries = vec![declared("a", &[x]), declared("b", &[y])];
        fixture.catalog.declare(entries).await.expect("declared");
        assert_eq!(fixture.catalog.resolve(&id(x)), id("a"));
        assert_eq!(fixture.catalog.resolve(&id(y)), id("b"));
    }
}

#[bounded::test]
async fn a_switch_of_a_declared_alias_outlives_a_start() {
    let fixture = TestCatalog::new();
    fixture.create("api").await;
    let file = || vec![declared("a", &["x", "y"]), declared("b", &[])];
    fixture.catalog.declare(file()).await.expect("declared");
    for (alias, model) in [("x", "b"), ("y", "api"), ("new", "b")] {
        fixture.switch(alias, model).await;
        fixture.catalog.declare(file()).await.expect("declared");
        assert_eq!(fixture.catalog.resolve(&id(alias)), id(model), "{alias}");
    }
    let aliases = fixture.entry("b").await.expect("there").aliases;
    assert_eq!(aliases, [id("new"), id("x")]);
}

#[bounded::test]
async fn what_the_file_says_anew_of_an_alias_is_newer_than_a_switch() {
    let fixture = TestCatalog::new();
    fixture.create("api").await;
    let file = vec![declared("a", &["x", "y"]), declared("b", &[])];
    fixture.catalog.declare(file).await.expect("declared");
    for (alias, model) in [("x", "api"), ("y", "api"), ("new", "b")] {
        fixture.switch(alias, model).await;
    }
    let file = vec![declared("a", &["new"]), declared("b", &["x"])];
    fixture.catalog.declare(file).await.expect("declared");
    // Of y the file says nothing any more, and it is not the file's model that it stands for.
    for (alias, model) in [("x", "b"), ("y", "api"), ("new", "a")] {
        assert_eq!(fixture.catalog.resolve(&id(alias)), id(model), "{alias}");
    }
}

#[bounded::test]
async fn an_alias_whose_switched_model_is_gone_is_the_files_again() {
    let fixture = TestCatalog::new();
    let file = vec![declared("a", &["x"]), declared("b", &[])];
    fixture.catalog.declare(file).await.expect("declared");
    fixture.switch("x", "b").await;
    let file = vec![declared("a", &["x"])];
    fixture.catalog.declare(file).await.expect("declared");
    assert_eq!(fixture.catalog.resolve(&id("x")), id("a"));
}

#[bounded::test]
async fn a_model_of_the_same_id_becomes_the_files() {
    let fixture = TestCatalog::new();
    let api = fixture.create("m").await;
    let mut new = declared("m", &[]);
    new.spec.required = true;
    fixture.catalog.declare(vec![new]).await.expect("declared");
    let entry = fixture.entry("m").await.expect("there");
    assert_eq!((entry.uid, entry.version), (api.uid, 2));
    assert_eq!((entry.origin, entry.desired), (ModelOrigin::File, true));
}

#[bounded::test]
async fn a_declared_model_is_not_changed_by_calls() {
    let fixture = TestCatalog::new();
    let entries = vec![declared("m", &[])];
    fixture.catalog.declare(entries).await.expect("declared");
    let entry = fixture.entry("m").await.expect("there");
    let replaced = fixture
        .catalog
        .register(id("m"), named("b"), OnConflict::Replace);
    assert!(matches!(replaced.await, Err(RegisterError::Declared(_))));
    let updated = fixture
        .catalog
        .update(&entry.id, change(&entry, named("b")), None);
    assert!(matches!(updated.await, Err(UpdateError::Declared)));
    let deleted = fixture.catalog.delete(&entry.id, None, true, None);
    assert!(matches!(deleted.await, Err(DeleteError::Declared)));
}

#[bounded::test]
async fn a_declaration_that_clashes_changes_nothing() {
    let fixture = TestCatalog::with_capacity(2);
    fixture.create_with("api", &["x"]).await.expect("created");
    let entries = vec![declared("a", &[])];
    fixture.catalog.declare(entries).await.expect("declared");
    for clash in [declared("b", &["api"]), declared("x", &[])] {
        let refused = fixture.catalog.declare(vec![clash]).await;
        assert!(matches!(refused, Err(DeclareError::Taken(taken)) if taken.by == id("api")));
    }
    let many = vec![declared("a", &[]), declared("b", &[])];
    let refused = fixture.catalog.declare(many).await;
    assert!(matches!(refused, Err(DeclareError::Full(2))));
    assert_eq!(fixture.ids().await, ["a", "api"]);
}
