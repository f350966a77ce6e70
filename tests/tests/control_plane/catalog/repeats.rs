//! Calls with a `request_id`: safe to repeat, also after the server was killed.

use super::*;

fn with_id(id: &str, request: CreateModelRequest) -> CreateModelRequest {
    CreateModelRequest {
        request_id: id.to_owned(),
        ..request
    }
}

#[hangar_tests::test]
async fn a_repeated_call_gets_the_same_answer_and_does_nothing() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let request = with_id("r", new("m"));
    let first = server.catalog.create_model(request.clone()).await?;
    let created = first.get_ref().model.clone().context("the entry")?;
    let change = UpdateModelRequest {
        request_id: "r".to_owned(),
        ..renamed(&created, "new")
    };
    let updated = server.update(change.clone()).await?;
    assert_eq!(server.update(change).await?, updated);
    let again = server.catalog.create_model(request.clone()).await?;
    assert_eq!(again.into_inner(), first.into_inner());
    let delete = DeleteModelRequest {
        model_id: "m".to_owned(),
        request_id: "r".to_owned(),
        ..DeleteModelRequest::default()
    };
    for _ in 0..2 {
        server.catalog.delete_model(delete.clone()).await?;
    }
    // What came of the first call is answered although it is undone.
    let again = server.catalog.create_model(request).await?.into_inner();
    assert_eq!(again.model.map(|model| model.uid), Some(created.uid));
    Ok(())
}

#[hangar_tests::test]
async fn an_id_belongs_to_one_body() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let first = with_id("r", new("m"));
    server.catalog.create_model(first).await?;
    let refused = server.catalog.create_model(with_id("r", new("n"))).await;
    let code = Code::InvalidArgument;
    refusal(refused, code, ErrorReason::RequestIdReused);
    Ok(())
}

#[hangar_tests::test]
async fn a_call_that_failed_can_be_tried_again() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    server.create("m").await?;
    let request = with_id("r", new("m"));
    let refused = server.catalog.create_model(request.clone()).await;
    refusal(refused, Code::AlreadyExists, ErrorReason::ModelExists);
    server.delete("m", false).await?;
    server.catalog.create_model(request).await?;
    Ok(())
}

#[hangar_tests::test]
async fn many_callers_with_one_id_make_one_model() -> Result<()> {
    let server = CatalogServer::new().await?;
    let calls = (0..20).map(|_| {
        let mut catalog = server.catalog.clone();
        async move { catalog.create_model(with_id("r", new("m"))).await }
    });
    let answers = futures::future::try_join_all(calls).await?;
    let first = answers[0].get_ref().clone();
    assert!(answers.iter().all(|answer| *answer.get_ref() == first));
    Ok(())
}

#[hangar_tests::test]
async fn what_was_answered_survives_a_kill() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let directory = tempfile::tempdir()?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .data_in(directory.path());
    let server = options.start().await?;
    let mut catalog = catalog(&server).await?;
    let request = with_id("r", aliased("m", &["a"]));
    let first = catalog.create_model(request.clone()).await?.into_inner();
    let created = first.model.clone().context("the entry")?;
    let change = UpdateModelRequest {
        request_id: "r".to_owned(),
        ..renamed(&created, "new")
    };
    let updated = catalog.update_model(change.clone()).await?.into_inner();
    create(&mut catalog, "n").await?;
    create(&mut catalog, "o").await?;
    let list = hangar_client::v1::ListModelsRequest {
        page_size: 2,
        ..Default::default()
    };
    let page = catalog.list_models(list.clone()).await?.into_inner();
    server.kill()?;

    let server = options.start().await?;
    let mut catalog = super::catalog(&server).await?;
    assert_eq!(Some(get(&mut catalog, "a").await?), updated.model);
    let again = catalog.create_model(request).await?.into_inner();
    assert_eq!(again, first);
    let again = catalog.update_model(change).await?.into_inner();
    assert_eq!(again, updated);
    let reused = catalog.create_model(with_id("r", new("x"))).await;
    refusal(reused, Code::InvalidArgument, ErrorReason::RequestIdReused);
    let next = hangar_client::v1::ListModelsRequest {
        page_token: page.next_page_token,
        ..list
    };
    let next = catalog.list_models(next).await?.into_inner();
    let ids: Vec<_> = next.models.iter().map(|m| m.model_id.as_str()).collect();
    assert_eq!((ids, next.total_size), (vec!["o"], 3));
    Ok(())
}

#[hangar_tests::test]
async fn an_answer_to_a_load_survives_a_kill() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let directory = tempfile::tempdir()?;
    let model = fixtures.scripted("m", &hangar_tests::scripted::Script::default())?;
    let options = TestServer::scripted()
        .fixtures(&fixtures)
        .data_in(directory.path());
    let server = options.start().await?;
    let spec = hangar_tests::server::spec(&model);
    let client = server.connect().await?;
    let load = client.load("m").spec(spec.clone()).request_id("r").wait();
    let first = load.await?;
    server.kill()?;
    let server = options.start().await?;
    let client = server.connect().await?;
    let load = client.load("m").spec(spec).request_id("r").wait();
    assert_eq!(load.await?, first);
    Ok(())
}
