//! What the hub answers.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, Uri, header, response::Builder},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Fault, HubState, Repository, Request, body, hex};

pub(super) fn router(state: Arc<HubState>) -> Router {
    Router::new()
        .route("/api/models/{owner}/{name}/revision/{revision}", get(list))
        .route("/{owner}/{name}/resolve/{revision}/{*file}", get(contents))
        .with_state(state)
}

type RequestParts = (Method, Uri, HeaderMap);

async fn list(
    State(state): State<Arc<HubState>>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    (method, uri, headers): RequestParts,
) -> Response {
    note(&state, &method, &uri, &headers);
    let mut inner = state.inner();
    if let Some(status) = inner.listing_status.pop_front() {
        return refused(status, None);
    }
    if !is_known(inner.token.as_deref(), &headers) {
        return refused(401, Some("GatedRepo"));
    }
    let Some(repository) = inner.repositories.get(&format!("{owner}/{name}")) else {
        return refused(404, Some("RepoNotFound"));
    };
    if revision != "main" && revision != repository.commit {
        return refused(404, Some("RevisionNotFound"));
    }
    let with_sizes = !inner.without_sizes && uri.query() == Some("blobs=true");
    let names = repository.files.keys().chain(repository.announced.keys());
    let mut siblings: Vec<_> = names
        .map(|name| sibling(repository, name, with_sizes))
        .collect();
    siblings.dedup();
    axum_json(&json!({"id": name, "sha": repository.commit, "siblings": siblings}))
}

fn sibling(repository: &Repository, name: &str, with_sizes: bool) -> Value {
    if !with_sizes {
        return json!({"rfilename": name});
    }
    let nothing = Bytes::new();
    let contents = repository.files.get(name).unwrap_or(&nothing);
    let length = contents.len() as u64;
    let size = repository.announced.get(name).copied().unwrap_or(length);
    let mut sibling = json!({"rfilename": name, "size": size, "blobId": blob_id(contents)});
    if is_large(name) {
        sibling["lfs"] =
            json!({"sha256": hex(&Sha256::digest(contents)), "size": size, "pointerSize": 134});
    }
    sibling
}

async fn contents(
    State(state): State<Arc<HubState>>,
    Path((owner, name, _, file)): Path<(String, String, String, String)>,
    (method, uri, headers): RequestParts,
) -> Response {
    let number = note(&state, &method, &uri, &headers);
    let mut inner = state.inner();
    if !is_known(inner.token.as_deref(), &headers) {
        return refused(401, Some("GatedRepo"));
    }
    let repository = inner.repositories.get(&format!("{owner}/{name}"));
    let Some((commit, whole)) =
        repository.and_then(|r| Some((r.commit.clone(), r.files.get(&file)?.clone())))
    else {
        return refused(404, Some("EntryNotFound"));
    };
    let builder = described(&file, &commit, &whole);
    if method == Method::HEAD {
        return built(
            builder.header(header::CONTENT_LENGTH, whole.len()),
            Body::empty(),
        );
    }
    let fault = inner
        .faults
        .get_mut(&file)
        .and_then(std::collections::VecDeque::pop_front);
    drop(inner);
    let from = range(&headers);
    let (from, whole) = match &fault {
        Some(Fault::Status(status)) => return refused(*status, None),
        Some(Fault::Redirect(hub)) => {
            let location = format!("{hub}{}", uri.path());
            let builder = builder.status(StatusCode::FOUND);
            return built(builder.header(header::LOCATION, location), Body::empty());
        }
        Some(Fault::Whole) => (None, whole),
        Some(Fault::Corrupt) => (from, whole.iter().map(|byte| !byte).collect()),
        Some(Fault::Longer(more)) => (from, [&whole[..], &vec![0; *more][..]].concat().into()),
        _ => (from, whole),
    };
    let length = whole.len() as u64;
    let first = from.unwrap_or(0).min(length);
    match partial(builder, from, length) {
        Some(builder) => built(builder, body::of(state, number, whole, first, fault)),
        None => refused(416, None),
    }
}

/// The head of an answer that says what the file is.
fn described(file: &str, commit: &str, whole: &Bytes) -> Builder {
    let digest = if is_large(file) {
        hex(&Sha256::digest(whole))
    } else {
        blob_id(whole)
    };
    Response::builder()
        .header("x-repo-commit", commit)
        .header("x-linked-size", whole.len())
        .header("x-linked-etag", format!("\"{digest}\""))
        .header(header::ETAG, format!("\"{digest}\""))
}

/// The head of an answer with the bytes `from` there on; nothing if there are none.
fn partial(builder: Builder, from: Option<u64>, length: u64) -> Option<Builder> {
    let first = from.unwrap_or(0).min(length);
    let builder = match from {
        Some(_) if first == length => return None,
        Some(_) => builder.status(StatusCode::PARTIAL_CONTENT).header(
            header::CONTENT_RANGE,
            format!("bytes {first}-{}/{length}", length - 1),
        ),
        None => builder,
    };
    Some(builder.header(header::CONTENT_LENGTH, length - first))
}

/// Takes note of a request and gives its number.
fn note(state: &HubState, method: &Method, uri: &Uri, headers: &HeaderMap) -> usize {
    let authorization = headers.get(header::AUTHORIZATION);
    let request = Request {
        line: format!("{method} {}", uri.path()),
        authorization: authorization.and_then(|v| Some(v.to_str().ok()?.to_owned())),
        from: range(headers).unwrap_or(0),
        served: 0,
    };
    let mut inner = state.inner();
    inner.requests.push(request);
    inner.requests.len() - 1
}

fn is_known(token: Option<&str>, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION);
    token.is_none_or(|token| given.is_some_and(|given| *given == format!("Bearer {token}")))
}

fn range(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    range
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

/// Whether the file lies in the large file storage.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

fn blob_id(contents: &[u8]) -> String {
    hex(&Sha256::digest(contents)[..20])
}

fn refused(status: u16, code: Option<&str>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    let code = code.unwrap_or("none").to_owned();
    (status, [("x-error-code", code)], "refused").into_response()
}

fn axum_json(value: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (headers, value.to_string()).into_response()
}

fn built(builder: axum::http::response::Builder, body: Body) -> Response {
    let failed = |_| StatusCode::INTERNAL_SERVER_ERROR.into_response();
    builder.body(body).unwrap_or_else(failed)
}
