//! UpdateModel.

use hangar_client::v1::{GenerationDefaults, Sampling};

use super::*;

#[hangar_tests::test]
async fn a_field_far_below_is_changed_alone() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let sampling = Sampling {
        temperature: Some(0.5),
        top_k: Some(40),
        ..Sampling::default()
    };
    let request = CreateModelRequest {
        spec: Some(ModelSpec {
            generation_defaults: Some(GenerationDefaults {
                sampling: Some(sampling),
                max_tokens: 9,
                ..GenerationDefaults::default()
            }),
            ..named("m")
        }),
        ..new("m")
    };
    let created = server.catalog.create_model(request).await?.into_inner();
    let created = created.model.context("the entry")?;
    let temperature = |model: &Model, to| {
        let mut model = model.clone();
        let spec = model.spec.get_or_insert_default();
        let defaults = spec.generation_defaults.get_or_insert_default();
        defaults.sampling.get_or_insert_default().temperature = to;
        model
    };
    let path = ["spec.generation_defaults.sampling.temperature"];
    // Only what the mask names counts of what is given.
    let sparse = Model {
        model_id: "m".to_owned(),
        etag: created.etag.clone(),
        ..Model::default()
    };
    let request = change(&temperature(&sparse, Some(0.0)), &path);
    let (updated, _) = server.update(request).await?;
    assert_eq!(updated.spec, temperature(&created, Some(0.0)).spec);
    assert_eq!((updated.version, &updated.uid), (2, &created.uid));
    assert_ne!(updated.etag, created.etag);
    assert_eq!(updated.create_time, created.create_time);
    assert_ne!(updated.update_time, created.update_time);
    // What is named and not given is cleared.
    let request = change(&temperature(&updated, None), &path);
    let (cleared, _) = server.update(request).await?;
    assert_eq!(cleared.spec, temperature(&created, None).spec);
    Ok(())
}

#[hangar_tests::test]
async fn the_spec_is_replaced_as_a_whole_or_not_without_a_source() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.create("m").await?;
    let nothing = Model {
        spec: None,
        ..created.clone()
    };
    let refused = server.update(change(&nothing, &["spec"])).await;
    assert_eq!(wrong_fields(refused), ["model.spec"]);
    let empty = Model {
        spec: Some(ModelSpec::default()),
        ..created.clone()
    };
    let refused = server.update(change(&empty, &["spec"])).await;
    assert_eq!(wrong_fields(refused), ["model.spec.source"]);
    let other = Model {
        spec: Some(ModelSpec {
            source: demo(),
            preload: true,
            ..ModelSpec::default()
        }),
        ..created.clone()
    };
    let (updated, _) = server.update(change(&other, &["spec"])).await?;
    assert_eq!(updated.spec, other.spec);
    Ok(())
}

#[hangar_tests::test]
async fn the_same_spec_is_no_change() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.create("m").await?;
    let (updated, _) = server.update(change(&created, &["spec"])).await?;
    assert_eq!(updated, created);
    Ok(())
}

#[hangar_tests::test]
async fn an_etag_is_required_and_has_to_be_the_current_one() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.create("m").await?;
    let without = UpdateModelRequest {
        etag: String::new(),
        ..renamed(&created, "new")
    };
    let refused = server.update(without).await;
    let code = Code::FailedPrecondition;
    let refused = refusal(refused, code, ErrorReason::EtagRequired);
    assert_eq!(refused.details().metadata["etag"], created.etag);

    let (updated, _) = server.update(renamed(&created, "new")).await?;
    for validate_only in [true, false] {
        let stale = UpdateModelRequest {
            validate_only,
            ..renamed(&created, "newer")
        };
        let refused = server.update(stale).await;
        let refused = refusal(refused, Code::Aborted, ErrorReason::EtagMismatch);
        assert_eq!(refused.details().metadata["etag"], updated.etag);
    }
    assert_eq!(server.get("m").await?, updated);
    Ok(())
}

#[hangar_tests::test]
async fn of_two_changes_at_once_one_is_stale() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.create("m").await?;
    let mut other = server.catalog.clone();
    let second = renamed(&created, "b");
    let (first, second) = tokio::join!(
        server.update(renamed(&created, "a")),
        other.update_model(second)
    );
    let winners = [first.is_ok(), second.is_ok()];
    assert_eq!(winners.iter().filter(|won| **won).count(), 1);
    let loser = first.err().or(second.err()).context("a loser")?;
    refusal(
        Err::<(), _>(loser),
        Code::Aborted,
        ErrorReason::EtagMismatch,
    );
    assert_eq!(server.get("m").await?.version, 2);
    Ok(())
}

#[hangar_tests::test]
async fn masks_that_name_what_cannot_be_changed_are_refused_with_every_path() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.create("m").await?;
    let bad = [
        "spec.colour",
        "etag",
        "model_id",
        "spec.labels.team",
        "nothing",
        "spec.display_name",
    ];
    let refused = server.update(change(&created, &bad)).await;
    let expected: Vec<_> = (0..5).map(|n| format!("update_mask.paths[{n}]")).collect();
    assert_eq!(wrong_fields(refused), expected);
    let refused = server.update(change(&created, &[])).await;
    assert_eq!(wrong_fields(refused), ["update_mask"]);
    let nothing = server.update(UpdateModelRequest::default()).await;
    assert_eq!(wrong_fields(nothing), ["model.model_id", "update_mask"]);
    assert_eq!(server.get("m").await?, created);
    Ok(())
}

#[hangar_tests::test]
async fn what_a_change_would_make_wrong_is_refused() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.create("m").await?;
    let mut wrong = created.clone();
    let spec = wrong.spec.get_or_insert_default();
    spec.priority = 9_999;
    spec.source = from(Path::new("relative"));
    wrong.aliases = vec!["a b".to_owned()];
    let paths = ["spec.priority", "spec.source", "aliases", "spec.nothing"];
    let mut fields = wrong_fields(server.update(change(&wrong, &paths)).await);
    fields.sort();
    assert_eq!(
        fields,
        [
            "model.aliases[0]",
            "model.spec.priority",
            "model.spec.source.path",
            "update_mask.paths[3]",
        ]
    );
    let mut outside = created.clone();
    outside.spec.get_or_insert_default().source = from(&server.fixtures.outside());
    let refused = server.update(change(&outside, &["spec.source"])).await;
    let code = Code::PermissionDenied;
    refusal(refused, code, ErrorReason::SourceNotAllowed);
    Ok(())
}

#[hangar_tests::test]
async fn validate_only_updates_nothing_and_returns_what_would_be() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    server.create("taken").await?;
    let created = server.create("m").await?;
    let check = UpdateModelRequest {
        validate_only: true,
        ..renamed(&created, "new")
    };
    let (would_be, _) = server.update(check).await?;
    assert_eq!(would_be.version, 2);
    assert_eq!(server.get("m").await?, created);
    let (updated, _) = server.update(renamed(&created, "new")).await?;
    assert_eq!((updated.etag.clone(), updated.version), (would_be.etag, 2));
    let taken = Model {
        aliases: vec!["taken".to_owned()],
        ..updated
    };
    let check = UpdateModelRequest {
        validate_only: true,
        ..change(&taken, &["aliases"])
    };
    let refused = server.update(check).await;
    refusal(refused, Code::AlreadyExists, ErrorReason::ModelExists);
    Ok(())
}

#[hangar_tests::test]
async fn what_is_not_there_is_not_changed() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.create("m").await?;
    server.delete("m", false).await?;
    let refused = server.update(renamed(&created, "new")).await;
    refusal(refused, Code::NotFound, ErrorReason::ModelNotFound);
    Ok(())
}
