//! CreateModel and GetModel.

use hangar_client::v1::{ModelKind, ModelOrigin, RestartPolicy};
use prost_types::Duration;

use super::*;

#[tokio::test]
async fn a_new_entry_is_whole_and_lasts() -> Result<()> {
    let mut house = House::new().await?;
    let spec = ModelSpec {
        source: from(&house.fixtures.directory("m")?),
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
    let response = house.catalog.create_model(request).await?.into_inner();
    let created = response.model.context("the new entry")?;
    assert_eq!(created.model_id, "dir/m");
    assert_eq!(created.spec, Some(spec));
    assert_eq!(created.aliases, ["a", "b"]);
    assert_eq!((created.version, created.origin()), (1, ModelOrigin::Api));
    assert!(!created.uid.is_empty() && !created.etag.is_empty());
    assert!(created.create_time.is_some());
    assert_eq!(created.create_time, created.update_time);
    for name in ["dir/m", "a", "b"] {
        assert_eq!(house.get(name).await?, created);
    }
    Ok(())
}

#[tokio::test]
async fn an_entry_that_the_caller_has_is_not_sent_again() -> Result<()> {
    let mut house = House::new().await?;
    let created = house.create("m").await?;
    let mut request = GetModelRequest {
        model_id: "m".to_owned(),
        if_none_match: created.etag.clone(),
    };
    let same = house.catalog.get_model(request.clone()).await?.into_inner();
    assert!(same.not_modified && same.model.is_none());
    house.update(renamed(&created, "new")).await?;
    let changed = house.catalog.get_model(request.clone()).await?.into_inner();
    assert!(!changed.not_modified);
    assert_eq!(changed.model.map(|model| model.version), Some(2));
    request.if_none_match = "something".to_owned();
    let changed = house.catalog.get_model(request).await?.into_inner();
    assert!(!changed.not_modified);
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_what_is_there_is_told() -> Result<()> {
    let mut house = House::new().await?;
    house.create("known").await?;
    let refused = house.get("unknown").await;
    let refused = refusal(refused, Code::NotFound, ErrorReason::ModelNotFound);
    assert_eq!(refused.details().metadata["known_model_ids"], "known");
    assert_eq!(wrong_fields(house.get("a b").await), ["model_id"]);
    assert_eq!(wrong_fields(house.get("").await), ["model_id"]);
    Ok(())
}

#[tokio::test]
async fn a_check_changes_nothing_and_tells_what_would_be() -> Result<()> {
    let mut house = House::new().await?;
    let check = CreateModelRequest {
        validate_only: true,
        request_id: "r".to_owned(),
        ..aliased("m", &["a"])
    };
    let response = house.catalog.create_model(check.clone()).await?;
    let model = response.into_inner().model.context("the entry")?;
    let expected = Model {
        model_id: "m".to_owned(),
        spec: Some(named("m")),
        aliases: vec!["a".to_owned()],
        ..Model::default()
    };
    assert_eq!(model, expected);
    let refused = house.get("m").await;
    refusal(refused, Code::NotFound, ErrorReason::ModelNotFound);
    // The id of a check is free.
    let real = CreateModelRequest {
        validate_only: false,
        ..check.clone()
    };
    house.catalog.create_model(real).await?;
    let again = house.catalog.create_model(check).await;
    refusal(again, Code::AlreadyExists, ErrorReason::ModelExists);
    Ok(())
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() -> Result<()> {
    let mut house = House::new().await?;
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
        let mut fields = wrong_fields(house.catalog.create_model(request).await);
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
    let nothing = house.catalog.create_model(CreateModelRequest::default());
    assert_eq!(wrong_fields(nothing.await), ["model_id", "spec"]);
    Ok(())
}

#[tokio::test]
async fn a_source_outside_the_roots_is_refused() -> Result<()> {
    let mut house = House::new().await?;
    for validate_only in [true, false] {
        let request = CreateModelRequest {
            spec: Some(ModelSpec {
                source: from(&house.fixtures.outside()),
                ..ModelSpec::default()
            }),
            validate_only,
            ..new("m")
        };
        let refused = house.catalog.create_model(request).await;
        refusal(
            refused,
            Code::PermissionDenied,
            ErrorReason::SourceNotAllowed,
        );
    }
    // What is not there yet may come.
    let request = CreateModelRequest {
        spec: Some(ModelSpec {
            source: from(&house.fixtures.root().join("later")),
            ..ModelSpec::default()
        }),
        ..new("m")
    };
    house.catalog.create_model(request).await?;
    Ok(())
}

#[tokio::test]
async fn as_many_models_as_may_be_are_registered() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let options = Options::scripted(&fixtures).argument("--max-models=2");
    let mut house = House::with(options, fixtures).await?;
    house.create("a").await?;
    house.create("b").await?;
    let refused = house.catalog.create_model(new("c")).await;
    refusal(refused, Code::ResourceExhausted, ErrorReason::LimitReached);
    house.delete("a", false).await?;
    house.create("c").await?;
    Ok(())
}
