//! Ids and aliases.

use super::*;

#[hangar_tests::test]
async fn a_name_that_is_taken_is_refused() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    server.catalog.create_model(aliased("m", &["a"])).await?;
    for (request, name) in [
        (new("m"), "m"),
        (new("a"), "a"),
        (aliased("n", &["m"]), "m"),
        (aliased("n", &["b", "a"]), "a"),
    ] {
        for validate_only in [true, false] {
            let request = CreateModelRequest {
                validate_only,
                ..request.clone()
            };
            let refused = server.catalog.create_model(request).await;
            let refused = refusal(refused, Code::AlreadyExists, ErrorReason::ModelExists);
            let metadata = &refused.details().metadata;
            assert_eq!((&*metadata["name"], &*metadata["model_id"]), (name, "m"));
        }
    }
    let refused = server.get("n").await;
    refusal(refused, Code::NotFound, ErrorReason::ModelNotFound);
    Ok(())
}

#[hangar_tests::test]
async fn ids_that_differ_in_case_are_different_models() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let lower = server.create("model").await?;
    let upper = server.create("Model").await?;
    assert_ne!(lower.uid, upper.uid);
    server.update(renamed(&upper, "changed")).await?;
    assert_eq!(server.get("model").await?, lower);
    server.delete("Model", false).await?;
    assert_eq!(server.get("model").await?, lower);
    let refused = server.get("MODEL").await;
    refusal(refused, Code::NotFound, ErrorReason::ModelNotFound);
    Ok(())
}

#[hangar_tests::test]
async fn aliases_are_replaced_as_a_whole_and_are_no_part_of_the_etag() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let request = aliased("m", &["a", "b"]);
    let created = server.catalog.create_model(request).await?.into_inner();
    let created = created.model.context("the entry")?;
    let wanted = Model {
        aliases: vec!["c".to_owned(), "b".to_owned()],
        ..created.clone()
    };
    let (updated, reload) = server.update(change(&wanted, &["aliases"])).await?;
    assert!(!reload);
    let expected = Model {
        aliases: vec!["b".to_owned(), "c".to_owned()],
        ..created.clone()
    };
    assert_eq!(updated, expected);
    let gone = server.get("a").await;
    refusal(gone, Code::NotFound, ErrorReason::ModelNotFound);
    // The alias is free for another model, and may stand for the model that is changed.
    server.create("a").await?;
    let none = Model {
        model_id: "c".to_owned(),
        aliases: Vec::new(),
        ..created
    };
    let (updated, _) = server.update(change(&none, &["aliases"])).await?;
    assert_eq!(updated.model_id, "m");
    assert!(updated.aliases.is_empty());
    Ok(())
}

#[hangar_tests::test]
async fn aliases_are_bounded_and_have_the_form_of_ids() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let many: Vec<_> = (0..17).map(|n| format!("a{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let refused = server.catalog.create_model(aliased("m", &many)).await;
    assert_eq!(wrong_fields(refused), ["aliases"]);
    server
        .catalog
        .create_model(aliased("m", &many[..16]))
        .await?;
    let created = server.get("m").await?;
    let own = Model {
        aliases: vec!["m".to_owned(), "-".to_owned()],
        ..created
    };
    let refused = server.update(change(&own, &["aliases"])).await;
    assert_eq!(
        wrong_fields(refused),
        ["model.aliases[0]", "model.aliases[1]"]
    );
    Ok(())
}
