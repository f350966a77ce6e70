//! Requests to a hub.
//!
//! Only the hub itself gets the token: it is taken out of a request that is redirected to another host or
//! port. No answer is awaited without a limit, and none is kept without one.

use std::{error::Error, time::Duration};

use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, RANGE},
    redirect::{Attempt, Policy},
};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    DownloadError, HubOptions, file_names,
    listing::{HubFile, Listing},
};
use crate::{model::HubSource, version::VERSION};

/// A way to one hub.
#[derive(Debug)]
pub(super) struct HubClient {
    endpoint: String,
    /// Follows redirects within the hub only: headers of the hub's own answers are looked at.
    api_client: Client,
    /// Follows redirects to where the contents are.
    content_client: Client,
    token: Option<HeaderValue>,
    stall_timeout: Duration,
}

/// Largest list of files that is read, in bytes.
const MAX_LISTING: usize = 32 << 20;

/// Longest time to a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Redirects that are followed, one after the other.
const REDIRECTS: usize = 5;

impl HubClient {
    /// A way to the hub that `options` name. The token is read now.
    pub(super) async fn new(options: &HubOptions) -> Result<Self, DownloadError> {
        let token = match &options.token {
            Some(token) => token.header().await?,
            None => None,
        };
        let build = |policy| {
            Client::builder()
                .user_agent(format!("hangar/{VERSION}"))
                .connect_timeout(options.stall_timeout.min(CONNECT))
                .redirect(policy)
                .referer(false)
                .build()
                .map_err(|error| DownloadError::Unavailable(error_text(error)))
        };
        Ok(Self {
            endpoint: options.endpoint.clone(),
            api_client: build(Policy::custom(within_the_hub))?,
            content_client: build(Policy::limited(REDIRECTS))?,
            token,
            stall_timeout: options.stall_timeout,
        })
    }

    /// Longest wait for bytes.
    pub(super) fn stall_timeout(&self) -> Duration {
        self.stall_timeout
    }

    /// The files that `source` asks for, at the commit that its revision stands for now.
    pub(super) async fn list(&self, source: &HubSource) -> Result<Listing, DownloadError> {
        let what = source_name(source);
        let (repository, revision) = (&source.repository, escaped(&source.revision));
        let url = format!(
            "{}/api/models/{repository}/revision/{revision}?blobs=true",
            self.endpoint
        );
        let response = self.send(self.api_client.get(url), &what).await?;
        if !response.status().is_success() {
            return Err(refused(response.status(), response.headers(), &what));
        }
        let body = self.body(response, &what).await?;
        let wanted = source.files.clone();
        tokio::task::spawn_blocking(move || Listing::read(&body, &wanted))
            .await
            .unwrap_or_else(|error| Err(DownloadError::Unavailable(error.to_string())))
    }

    /// The files of `listing` with sizes and digests; the hub is asked for what that does not have.
    pub(super) async fn describe(
        &self,
        source: &HubSource,
        listing: &Listing,
    ) -> Result<Vec<HubFile>, DownloadError> {
        let mut files = Vec::with_capacity(listing.files.len());
        for listed in &listing.files {
            let file = match listed.described() {
                Some(file) => file,
                None => {
                    let name = &listed.name;
                    self.head(source, &listing.commit, name).await?
                }
            };
            files.push(file);
        }
        Ok(files)
    }

    /// Begins to read a file from byte `from` on.
    pub(super) async fn open(
        &self,
        source: &HubSource,
        commit: &str,
        name: &str,
        from: u64,
    ) -> Result<Response, DownloadError> {
        let what = file_name(source, name);
        let url = self.file_url(source, commit, name)?;
        let request = self.content_client.get(url);
        let request = request.header(RANGE, format!("bytes={from}-"));
        let response = self.send(request, &what).await?;
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            Ok(response)
        } else {
            Err(refused(status, response.headers(), &what))
        }
    }

    async fn head(
        &self,
        source: &HubSource,
        commit: &str,
        name: &str,
    ) -> Result<HubFile, DownloadError> {
        let what = file_name(source, name);
        let url = self.file_url(source, commit, name)?;
        let response = self.send(self.api_client.head(url), &what).await?;
        let (status, headers) = (response.status(), response.headers());
        if !status.is_success() && !status.is_redirection() {
            return Err(refused(status, headers, &what));
        }
        let reported = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let length = reported(CONTENT_LENGTH.as_str()).filter(|_| status.is_success());
        let size = reported("x-linked-size")
            .or(length)
            .and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| {
            DownloadError::Unavailable(format!("the hub does not tell the size of {what}"))
        })?;
        let etag = reported("x-linked-etag").or(reported(ETAG.as_str()));
        Ok(HubFile {
            name: name.to_owned(),
            size,
            blob: blob_name(etag, commit, name),
        })
    }

    fn file_url(
        &self,
        source: &HubSource,
        commit: &str,
        name: &str,
    ) -> Result<String, DownloadError> {
        if !file_names::is_plain(name) {
            return Err(DownloadError::Unusable(format!(
                "the file {name:?} cannot be downloaded: its name has other characters than letters, digits and \
                 ._/-+=@"
            )));
        }
        Ok(format!(
            "{}/{}/resolve/{}/{name}",
            self.endpoint,
            source.repository,
            escaped(commit)
        ))
    }

    async fn send(&self, request: RequestBuilder, what: &str) -> Result<Response, DownloadError> {
        let request = match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        };
        match timeout(self.stall_timeout, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(DownloadError::Unavailable(format!(
                "the hub {} cannot be reached: {}; check --hub-endpoint and the network",
                self.endpoint,
                error_text(error)
            ))),
            Err(_) => Err(DownloadError::stalled(what, self.stall_timeout)),
        }
    }

    async fn body(&self, mut response: Response, what: &str) -> Result<Vec<u8>, DownloadError> {
        let mut body = Vec::new();
        loop {
            match timeout(self.stall_timeout, response.chunk()).await {
                Ok(Ok(Some(bytes))) => body.extend_from_slice(&bytes),
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => {
                    return Err(DownloadError::Unavailable(format!(
                        "the hub's list of the files of {what} broke off: {}",
                        error_text(error)
                    )));
                }
                Err(_) => return Err(DownloadError::stalled(what, self.stall_timeout)),
            }
            if body.len() > MAX_LISTING {
                return Err(DownloadError::Unusable(format!(
                    "the list of the files of {what} is longer than {MAX_LISTING} bytes"
                )));
            }
        }
    }
}

/// What went wrong, without the URL: one of contents may hold a signature.
pub(super) fn error_text(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &dyn Error = &error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}

/// The file `name` of `source`, for messages.
pub(super) fn file_name(source: &HubSource, name: &str) -> String {
    format!("{name} of {}", source_name(source))
}

/// The hub's refusal of `what`.
pub(super) fn refused(status: StatusCode, headers: &HeaderMap, what: &str) -> DownloadError {
    let what = what.to_owned();
    let code = headers
        .get("x-error-code")
        .and_then(|value| value.to_str().ok());
    match (status.as_u16(), code) {
        (status @ (401 | 403), _) => DownloadError::Denied { what, status },
        (404, Some("RevisionNotFound")) => DownloadError::Unusable(format!(
            "the hub has no such revision: {what}; check the spec's revision"
        )),
        (404, _) => DownloadError::Unusable(format!(
            "the hub has no {what}; check the names in the spec's source"
        )),
        (300..=399 | 408 | 425 | 429 | 500..=599, _) => {
            DownloadError::Unavailable(format!("the hub answered {status} for {what}"))
        }
        _ => DownloadError::Unusable(format!("the hub refuses {what}: {status}")),
    }
}

fn source_name(source: &HubSource) -> String {
    format!("{} at {}", source.repository, source.revision)
}

/// A revision in a URL.
fn escaped(revision: &str) -> String {
    revision.replace('/', "%2F")
}

/// The name of contents in the cache: what the hub calls them, as far as that can be a name.
fn blob_name(etag: Option<&str>, commit: &str, name: &str) -> String {
    let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
    match etag.filter(|etag| file_names::is_blob_name(etag)) {
        Some(etag) => etag.to_owned(),
        // Long enough to be unique and not as long as a digest of the contents would be.
        None => {
            let digest = Sha256::digest(format!("{commit}/{name}"));
            digest[..20]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        }
    }
}

fn within_the_hub(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let same = attempt
        .previous()
        .last()
        .is_some_and(|last| last.origin() == attempt.url().origin());
    if attempt.previous().len() > REDIRECTS {
        attempt.error("too many redirects")
    } else if same {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_hostile_etag_is_no_name() {
        assert_eq!(blob_name(Some("W/\"abc-1\""), "c", "n"), "abc-1");
        for etag in [
            None,
            Some("../../x"),
            Some("/etc/passwd"),
            Some(""),
            Some("a.lock"),
        ] {
            let name = blob_name(etag, "c", "n");
            assert!(
                name.len() == 40 && file_names::is_blob_name(&name),
                "{name}"
            );
        }
    }

    #[bounded::test]
    fn answers_of_the_hub_are_distinguished() {
        let headers = HeaderMap::new();
        let of = |status| {
            refused(
                StatusCode::from_u16(status).unwrap(),
                &headers,
                "x/y at main",
            )
        };
        for status in [401, 403] {
            assert!(matches!(of(status), DownloadError::Denied { .. }));
        }
        for status in [302, 408, 429, 500, 503] {
            assert!(of(status).is_transient(), "{status}");
        }
        for status in [400, 404, 410, 451] {
            assert!(matches!(of(status), DownloadError::Unusable(_)), "{status}");
        }
    }
}
