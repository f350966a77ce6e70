//! Models that the configuration file declares.

use super::*;

fn declared(name: &str, aliases: &[&str]) -> NewEntry {
    NewEntry {
        aliases: aliases.iter().map(|alias| id(alias)).collect(),
        origin: Origin::File,
        ..new(name)
    }
}

#[tokio::test]
async fn the_files_entries_become_exactly_those_declared() {
    let lab = Lab::new();
    lab.create("api").await;
    let first = vec![declared("a", &["x"]), declared("b", &["y"])];
    lab.catalog.declare(first).await.expect("declared");
    let b = lab.entry("b").await.expect("there");
    let second = vec![declared("b", &["x"]), declared("c", &[])];
    lab.catalog.declare(second).await.expect("declared");
    assert_eq!(lab.ids().await, ["api", "b", "c"]);
    let again = lab.entry("x").await.expect("there");
    assert_eq!((again.uid, again.version, again.etag), (b.uid, 1, b.etag));
    assert_eq!(lab.catalog.resolve(&id("y")), id("y"));
    assert_eq!(
        lab.entry("api").await.map(|entry| entry.origin),
        Some(Origin::Api)
    );
}

#[tokio::test]
async fn declared_models_can_swap_aliases() {
    let lab = Lab::new();
    for (x, y) in [("x", "y"), ("y", "x")] {
        let entries = vec![declared("a", &[x]), declared("b", &[y])];
        lab.catalog.declare(entries).await.expect("declared");
        assert_eq!(lab.catalog.resolve(&id(x)), id("a"));
        assert_eq!(lab.catalog.resolve(&id(y)), id("b"));
    }
}

#[tokio::test]
async fn a_switch_of_a_declared_alias_outlives_a_start() {
    let lab = Lab::new();
    lab.create("api").await;
    let file = || vec![declared("a", &["x", "y"]), declared("b", &[])];
    lab.catalog.declare(file()).await.expect("declared");
    for (alias, model) in [("x", "b"), ("y", "api"), ("new", "b")] {
        lab.switch(alias, model).await;
        lab.catalog.declare(file()).await.expect("declared");
        assert_eq!(lab.catalog.resolve(&id(alias)), id(model), "{alias}");
    }
    let aliases = lab.entry("b").await.expect("there").aliases;
    assert_eq!(aliases, [id("new"), id("x")]);
}

#[tokio::test]
async fn what_the_file_says_anew_of_an_alias_is_newer_than_a_switch() {
    let lab = Lab::new();
    lab.create("api").await;
    let file = vec![declared("a", &["x", "y"]), declared("b", &[])];
    lab.catalog.declare(file).await.expect("declared");
    for (alias, model) in [("x", "api"), ("y", "api"), ("new", "b")] {
        lab.switch(alias, model).await;
    }
    let file = vec![declared("a", &["new"]), declared("b", &["x"])];
    lab.catalog.declare(file).await.expect("declared");
    // Of y the file says nothing any more, and it is not the file's model that it stands for.
    for (alias, model) in [("x", "b"), ("y", "api"), ("new", "a")] {
        assert_eq!(lab.catalog.resolve(&id(alias)), id(model), "{alias}");
    }
}

#[tokio::test]
async fn an_alias_whose_switched_model_is_gone_is_the_files_again() {
    let lab = Lab::new();
    let file = vec![declared("a", &["x"]), declared("b", &[])];
    lab.catalog.declare(file).await.expect("declared");
    lab.switch("x", "b").await;
    let file = vec![declared("a", &["x"])];
    lab.catalog.declare(file).await.expect("declared");
    assert_eq!(lab.catalog.resolve(&id("x")), id("a"));
}

#[tokio::test]
async fn a_model_of_the_same_id_becomes_the_files() {
    let lab = Lab::new();
    let api = lab.create("m").await;
    let mut new = declared("m", &[]);
    new.spec.required = true;
    lab.catalog.declare(vec![new]).await.expect("declared");
    let entry = lab.entry("m").await.expect("there");
    assert_eq!((entry.uid, entry.version), (api.uid, 2));
    assert_eq!((entry.origin, entry.desired), (Origin::File, true));
}

#[tokio::test]
async fn a_declared_model_is_not_changed_by_calls() {
    let lab = Lab::new();
    let entries = vec![declared("m", &[])];
    lab.catalog.declare(entries).await.expect("declared");
    let entry = lab.entry("m").await.expect("there");
    let replaced = lab
        .catalog
        .register(id("m"), named("b"), OnConflict::Replace);
    assert!(matches!(replaced.await, Err(RegisterError::Declared(_))));
    let updated = lab
        .catalog
        .update(&entry.id, change(&entry, named("b")), None);
    assert!(matches!(updated.await, Err(UpdateError::Declared)));
    let deleted = lab.catalog.delete(&entry.id, None, true, None);
    assert!(matches!(deleted.await, Err(DeleteError::Declared)));
}

#[tokio::test]
async fn a_declaration_that_clashes_changes_nothing() {
    let lab = Lab::with_capacity(2);
    lab.create_with("api", &["x"]).await.expect("created");
    let entries = vec![declared("a", &[])];
    lab.catalog.declare(entries).await.expect("declared");
    for clash in [declared("b", &["api"]), declared("x", &[])] {
        let refused = lab.catalog.declare(vec![clash]).await;
        assert!(matches!(refused, Err(DeclareError::Taken(taken)) if taken.by == id("api")));
    }
    let many = vec![declared("a", &[]), declared("b", &[])];
    let refused = lab.catalog.declare(many).await;
    assert!(matches!(refused, Err(DeclareError::Full(2))));
    assert_eq!(lab.ids().await, ["a", "api"]);
}
