//! The catalog's calls: repetitions, pages, etags.

use hangar_client::{
    Error, Freshness,
    v1::{
        CreateModelResponse, DeleteModelResponse, ErrorReason, GetModelResponse,
        ListModelsResponse, Model, ModelOrder, ModelSpec, SourceKind, UpdateModelRequest,
        UpdateModelResponse,
    },
};
use tonic::{Code, Status};

use crate::script::{Asked, Script, refused};

/// The entry "m" with this etag and priority.
pub(crate) fn model(etag: &str, priority: i32) -> Model {
    let spec = ModelSpec {
        priority,
        ..Default::default()
    };
    Model {
        model_id: "m".to_owned(),
        etag: etag.to_owned(),
        spec: Some(spec),
        ..Default::default()
    }
}

pub(crate) fn got(model: Model) -> Result<GetModelResponse, Status> {
    Ok(GetModelResponse {
        model: Some(model),
        ..Default::default()
    })
}

pub(crate) fn updated(model: Model) -> Result<UpdateModelResponse, Status> {
    Ok(UpdateModelResponse {
        model: Some(model),
        ..Default::default()
    })
}

fn page(models: &[&str], next: &str) -> Result<ListModelsResponse, Status> {
    let models = models.iter().map(|id| Model {
        model_id: (*id).to_owned(),
        ..Default::default()
    });
    Ok(ListModelsResponse {
        models: models.collect(),
        next_page_token: next.to_owned(),
        total_size: 3,
    })
}

fn gone<T>() -> Result<T, Status> {
    Err(Status::unavailable("a proxy"))
}

fn mismatch<T>() -> Result<T, Status> {
    Err(refused(Code::Aborted, "ETAG_MISMATCH"))
}

fn paths(request: &UpdateModelRequest) -> &[String] {
    &request.update_mask.as_ref().unwrap().paths
}

/// Request ids of the calls that create, update and delete.
fn request_ids(script: &Script) -> [Vec<String>; 3] {
    let state = script.state();
    let catalog = &state.catalog;
    let (creates, updates) = (&catalog.creates.requests, &catalog.updates.requests);
    let deletes = &catalog.deletes.requests;
    [
        creates.iter().map(|r| r.request_id.clone()).collect(),
        updates.iter().map(|r| r.request_id.clone()).collect(),
        deletes.iter().map(|r| r.request_id.clone()).collect(),
    ]
}

#[bounded::test]
async fn what_changes_the_catalog_is_repeated_under_the_same_request_id() {
    let script = Script::default();
    let created = CreateModelResponse {
        model: Some(model("e1", 0)),
    };
    {
        let mut state = script.state();
        state.catalog.creates = Asked::with([gone(), Ok(created)]);
        state.catalog.updates = Asked::with([gone(), updated(model("e2", 1))]);
        state.catalog.deletes = Asked::with([gone(), Ok(DeleteModelResponse::default())]);
    }
    let (client, _tasks) = script.serve().await;
    let spec = ModelSpec::default();
    let create = client.create_model("m", spec).alias("a").aliases(["b"]);
    assert_eq!(create.send().await.unwrap().etag, "e1");
    let update = client.update_model("m").etag("e1").priority(1);
    assert_eq!(update.send().await.unwrap().model.unwrap().etag, "e2");
    let deleted = client.delete_model("m").etag("e2").send().await.unwrap();
    assert_eq!(deleted, None);

    let [creates, updates, deletes] = request_ids(&script);
    for ids in [&creates, &updates, &deletes] {
        assert!(
            ids.len() == 2 && ids[0] == ids[1] && !ids[0].is_empty(),
            "{ids:?}"
        );
    }
    assert!(creates[0] != updates[0] && updates[0] != deletes[0]);
    let state = script.state();
    assert_eq!(state.catalog.creates.requests[0].aliases, ["a", "b"]);
    assert_eq!(state.catalog.updates.requests[0].etag, "e1");
    assert_eq!(state.catalog.deletes.requests[0].etag, "e2");
}

#[bounded::test]
async fn a_request_id_of_the_caller_is_kept_and_a_check_says_so() {
    let script = Script::default();
    let created = CreateModelResponse {
        model: Some(model("", 0)),
    };
    script.state().catalog.creates = Asked::with([Ok(created)]);
    let (client, _tasks) = script.serve().await;
    let create = client
        .create_model("m", ModelSpec::default())
        .request_id("mine");
    create.validate().await.unwrap();
    let request = script.state().catalog.creates.requests[0].clone();
    assert_eq!(
        (request.request_id.as_str(), request.validate_only),
        ("mine", true)
    );
}

#[bounded::test]
async fn an_entry_that_the_caller_has_is_not_given_again() {
    let script = Script::default();
    let same = GetModelResponse {
        not_modified: true,
        ..Default::default()
    };
    script.state().catalog.gets = Asked::with([Ok(same), got(model("e2", 0))]);
    let (client, _tasks) = script.serve().await;
    let get = client.get_model("m").if_none_match("e1");
    assert_eq!(get.clone().send().await.unwrap(), Freshness::NotModified);
    let Freshness::Modified(model) = get.send().await.unwrap() else {
        panic!("it was modified")
    };
    assert_eq!(model.etag, "e2");
    assert_eq!(script.state().catalog.gets.requests[0].if_none_match, "e1");
}

#[bounded::test]
async fn a_stream_goes_through_all_pages_with_the_same_filter() {
    let script = Script::default();
    script.state().catalog.lists = Asked::with([
        page(&["a"], "p2"),
        gone(),
        page(&[], "p3"),
        page(&["b", "c"], ""),
    ]);
    let (client, _tasks) = script.serve().await;
    let list = client
        .list_models()
        .label("team", "search")
        .source(SourceKind::Demo)
        .order_by(ModelOrder::CreateTime)
        .descending()
        .page_size(2);
    let mut models = list.stream();
    let mut ids = Vec::new();
    while let Some(model) = models.next().await {
        ids.push(model.unwrap().model_id);
    }
    assert_eq!(ids, ["a", "b", "c"]);
    let requests = script.state().catalog.lists.requests.clone();
    let tokens: Vec<_> = requests.iter().map(|r| r.page_token.as_str()).collect();
    assert_eq!(tokens, ["", "p2", "p2", "p3"]);
    for request in &requests {
        assert_eq!(request.filter, requests[0].filter);
        assert_eq!(request.order_by(), ModelOrder::CreateTime);
        assert!(request.descending && request.page_size == 2);
    }
    let filter = requests[0].filter.clone().unwrap();
    assert_eq!(filter.source(), SourceKind::Demo);
    assert_eq!(filter.labels["team"], "search");
}

#[bounded::test]
async fn a_stream_ends_with_its_error() {
    let script = Script::default();
    script.state().catalog.lists = Asked::with([
        page(&["a"], "p2"),
        Err(refused(Code::InvalidArgument, "TOKEN_INVALID")),
    ]);
    let (client, _tasks) = script.serve().await;
    let mut models = client.list_models().stream();
    assert_eq!(models.next().await.unwrap().unwrap().model_id, "a");
    let error = models.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::TokenInvalid));
    assert!(models.next().await.is_none());
}

#[bounded::test]
async fn pages_that_go_in_a_circle_are_an_error() {
    let script = Script::default();
    script.state().catalog.lists = Asked::with([page(&["a"], "p2"), page(&["b"], "p2")]);
    let (client, _tasks) = script.serve().await;
    let mut models = client.list_models().stream();
    assert!(models.next().await.unwrap().is_ok());
    let error = models.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
}

#[bounded::test]
async fn an_edit_is_made_again_on_the_entry_of_whoever_was_faster() {
    let script = Script::default();
    script.state().catalog.gets = Asked::with([got(model("e1", 1)), got(model("e2", 10))]);
    script.state().catalog.updates = Asked::with([mismatch(), updated(model("e3", 11))]);
    let (client, _tasks) = script.serve().await;
    let edit = client.edit_model("m").send(|model| {
        model.spec.get_or_insert_default().priority += 1;
    });
    let response = edit.await.unwrap().unwrap();
    assert_eq!(response.model.unwrap().etag, "e3");

    let requests = script.state().catalog.updates.requests.clone();
    let [first, second] = &requests[..] else {
        panic!("not two updates")
    };
    let priority = |request: &UpdateModelRequest| {
        let model = request.model.clone().unwrap();
        (request.etag.clone(), model.spec.unwrap().priority)
    };
    assert_eq!(priority(first), ("e1".to_owned(), 2));
    assert_eq!(priority(second), ("e2".to_owned(), 11));
    assert_eq!(paths(second), ["spec.priority"]);
    assert_ne!(first.request_id, second.request_id);
}

#[bounded::test]
async fn an_edit_gives_way_after_its_attempts() {
    let script = Script::default();
    script.state().catalog.gets = Asked::with((0..9).map(|n| got(model("e", n))));
    script.state().catalog.updates = Asked::with((0..9).map(|_| mismatch()));
    let (client, _tasks) = script.serve().await;
    let raise = |model: &mut Model| model.spec.get_or_insert_default().priority += 1;
    let edit = client.edit_model("m").attempts(3).send(raise);
    let error = edit.await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::EtagMismatch));
    assert_eq!(script.state().catalog.updates.requests.len(), 3);

    let error = client
        .edit_model("m")
        .etag("mine")
        .send(raise)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::EtagMismatch));
    let requests = script.state().catalog.updates.requests.clone();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[3].etag, "mine");
}

#[bounded::test]
async fn an_edit_that_changes_nothing_writes_nothing() {
    let script = Script::default();
    script.state().catalog.gets = Asked::with([got(model("e1", 1))]);
    let (client, _tasks) = script.serve().await;
    let edited = client.edit_model("m").send(|_| {}).await.unwrap();
    assert_eq!(edited, None);
    assert!(script.state().catalog.updates.requests.is_empty());
}

#[bounded::test]
async fn an_edit_of_aliases_leaves_the_spec_alone() {
    let script = Script::default();
    script.state().catalog.gets = Asked::with([got(model("e1", 1))]);
    script.state().catalog.updates = Asked::with([updated(model("e1", 1))]);
    let (client, _tasks) = script.serve().await;
    let edit = client
        .edit_model("m")
        .send(|model| model.aliases.push("a".to_owned()));
    edit.await.unwrap().unwrap();
    let request = script.state().catalog.updates.requests[0].clone();
    assert_eq!(paths(&request), ["aliases"]);
    assert_eq!(request.model.unwrap().aliases, ["a"]);
}
