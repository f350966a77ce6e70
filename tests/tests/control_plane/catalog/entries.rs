//! CreateModel and GetModel.

use hangar_client::v1::{ModelKind, ModelOrigin, RestartPolicy};
use prost_types::Duration;

use super::*;

#[hangar_tests::test]
async fn a_new_entry_is_whole_and_lasts() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let spec = ModelSpec {
        source: from(&server.fixtures.directory("m")?),
        description: "words".to_owned(),
        languages: vec!["en".to_owned()],
        labels: [("team".to_owned(), "a".to_owned())].into(),
        kind: ModelKind::Text.into(),
        idle_timeout: Some(Duration {
            seconds: 60,
            nanos: 0,
        }),
        priority: -7,
        max_queue: Some(0),
        ..named("M")
    };
    let request = CreateModelRequest {
        spec: Some(spec.clone()),
        ..aliased("dir/m", &["b", "a"])
    };
    let response = server.catalog.create_model(request).await?.into_inner();
    let created = response.model.context("the new entry")?;
    assert_eq!(created.model_id, "dir/m");
    assert_eq!(created.spec, Some(spec));
    assert_eq!(created.aliases, ["a", "b"]);
    assert_eq!((created.version, created.origin()), (1, ModelOrigin::Api));
    assert!(!created.uid.is_empty() && !created.etag.is_empty());
    assert!(created.create_time.is_some());
    assert_eq!(created.create_time, created.update_time);
    for name in ["dir/m", "a", "b"] {
        assert_eq!(server.get(name).await?, created);
    }
    Ok(())
}

#[hangar_tests::test]
async fn an_entry_that_the_caller_has_is_not_sent_again() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let created = server.create("m").await?;
    let mut request = GetModelRequest {
        model_id: "m".to_owned(),
        if_none_match: created.etag.clone(),
    };
    let same = server
        .catalog
        .get_model(request.clone())
        .await?
        .into_inner();
    assert!(same.not_modified && same.model.is_none());
    server.update(renamed(&created, "new")).await?;
    let changed = server
        .catalog
        .get_model(request.clone())
        .await?
        .into_inner();
    assert!(!changed.not_modified);
    assert_eq!(changed.model.map(|model| model.version), Some(2));
    request.if_none_match = "something".to_owned();
    let changed = server.catalog.get_model(request).await?.into_inner();
    assert!(!changed.not_modified);
    Ok(())
}

#[hangar_tests::test]
async fn an_unknown_entry_is_not_found_and_the_error_lists_known_ones() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    server.create("known").await?;
    let refused = server.get("unknown").await;
    let refused = refusal(refused, Code::NotFound, ErrorReason::ModelNotFound);
    assert_eq!(refused.details().metadata["known_model_ids"], "known");
    assert_eq!(wrong_fields(server.get("a b").await), ["model_id"]);
    assert_eq!(wrong_fields(server.get("").await), ["model_id"]);
    Ok(())
}

#[hangar_tests::test]
async fn validate_only_creates_nothing_and_returns_what_would_be() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let check = CreateModelRequest {
        validate_only: true,
        request_id: "r".to_owned(),
        ..aliased("m", &["a"])
    };
    let response = server.catalog.create_model(check.clone()).await?;
    let model = response.into_inner().model.context("the entry")?;
    let expected = Model {
        model_id: "m".to_owned(),
        spec: Some(named("m")),
        aliases: vec!["a".to_owned()],
        ..Model::default()
    };
    assert_eq!(model, expected);
    let refused = server.get("m").await;
    refusal(refused, Code::NotFound, ErrorReason::ModelNotFound);
    // The id of a check is free.
    let real = CreateModelRequest {
        validate_only: false,
        ..check.clone()
    };
    server.catalog.create_model(real).await?;
    let again = server.catalog.create_model(check).await;
    refusal(again, Code::AlreadyExists, ErrorReason::ModelExists);
    Ok(())
}

#[hangar_tests::test]
async fn all_violations_are_reported_at_once() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    for validate_only in [true, false] {
        let request = CreateModelRequest {
            spec: Some(ModelSpec {
                source: from(Path::new("relative")),
                display_name: "x".repeat(257),
                priority: 2_000,
                kind: 99,
                restart_policy: Some(RestartPolicy {
                    mode: 99,
                    ..RestartPolicy::default()
                }),
                ..ModelSpec::default()
            }),
            request_id: "x".repeat(129),
            validate_only,
            ..aliased("a b", &["..", "x", "x"])
        };
        let mut fields = wrong_fields(server.catalog.create_model(request).await);
        fields.sort();
        assert_eq!(
            fields,
            [
                "aliases[0]",
                "aliases[2]",
                "model_id",
                "request_id",
                "spec.display_name",
                "spec.kind",
                "spec.priority",
                "spec.restart_policy.mode",
                "spec.source.path",
            ]
        );
    }
    let nothing = server.catalog.create_model(CreateModelRequest::default());
    assert_eq!(wrong_fields(nothing.await), ["model_id", "spec"]);
    Ok(())
}

#[hangar_tests::test]
async fn a_source_outside_the_roots_is_refused() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    for validate_only in [true, false] {
        let request = CreateModelRequest {
            spec: Some(ModelSpec {
                source: from(&server.fixtures.outside()),
                ..ModelSpec::default()
            }),
            validate_only,
            ..new("m")
        };
        let refused = server.catalog.create_model(request).await;
        refusal(
            refused,
            Code::PermissionDenied,
            ErrorReason::SourceNotAllowed,
        );
    }
    // What is not there yet may come.
    let request = CreateModelRequest {
        spec: Some(ModelSpec {
            source: from(&server.fixtures.root().join("later")),
            ..ModelSpec::default()
        }),
        ..new("m")
    };
    server.catalog.create_model(request).await?;
    Ok(())
}

#[hangar_tests::test]
async fn as_many_models_as_may_be_are_registered() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .argument("--max-models=2");
    let mut server = CatalogServer::with(&options).await?;
    server.create("a").await?;
    server.create("b").await?;
    let refused = server.catalog.create_model(new("c")).await;
    refusal(refused, Code::ResourceExhausted, ErrorReason::LimitReached);
    server.delete("a", false).await?;
    server.create("c").await?;
    Ok(())
}
