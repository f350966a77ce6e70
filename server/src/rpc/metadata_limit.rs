//! Refuses calls whose metadata are too large, in gRPC's own way: below this, HTTP/2 only answers 431.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use tonic::Status;

use super::error::ApiError;

/// Largest metadata of a call in bytes, counted as HTTP/2 does: 32 more for each entry.
const MAX_METADATA: usize = 16 << 10;

/// What an entry counts beside its name and value (RFC 9113, 6.5.2).
const ENTRY: usize = 32;

/// Passes requests on whose headers are not too large.
pub async fn limit_metadata(request: Request, next: Next) -> Response {
    if size(request.headers()) <= MAX_METADATA {
        return next.run(request).await;
    }
    if is_grpc(request.headers()) {
        let refused = Status::from(ApiError::Limit {
            what: "bytes of a call's metadata",
            limit: MAX_METADATA,
        });
        refused.into_http::<tonic::body::Body>().map(Body::new)
    } else {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response()
    }
}

/// Whether these are the headers of a gRPC call.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let form = headers.get(CONTENT_TYPE);
    form.is_some_and(|form| form.as_bytes().starts_with(b"application/grpc"))
}

fn size(headers: &HeaderMap) -> usize {
    let entries = headers.iter();
    entries
        .map(|(name, value)| name.as_str().len() + value.len() + ENTRY)
        .sum()
}
