//! ListModels: pages, and a stream over all of them.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use crate::{
    call::UnaryCall,
    client::Client,
    error::Error,
    v1::{
        ListModelsRequest, ListModelsResponse, Model, ModelFilter, ModelKind, ModelOrder,
        SourceKind, catalog_service,
    },
};

/// Lists entries. Made by [`Client::list_models`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `page` or `stream`"]
pub struct ListModels {
    client: Client,
    request: ListModelsRequest,
}

/// The entries of all pages, each page asked for when the one before has been read. Made by
/// [`ListModels::stream`].
///
/// It ends after an error. Entries that are registered or removed meanwhile may be in it or not.
pub struct ModelStream(BoxStream<'static, Result<Model, Error>>);

impl ListModels {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            request: ListModelsRequest::default(),
        }
    }

    /// Only models from such a source.
    pub fn source(mut self, source: SourceKind) -> Self {
        self.filter().set_source(source);
        self
    }

    /// Only models of this kind, as their spec or a load tells it.
    pub fn kind(mut self, kind: ModelKind) -> Self {
        self.filter().set_kind(kind);
        self
    }

    /// Only models with this label; an empty value stands for any. May be called more than once.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.filter().labels.insert(key.into(), value.into());
        self
    }

    /// What to order by. Default: the id.
    pub fn order_by(mut self, order: ModelOrder) -> Self {
        self.request.set_order_by(order);
        self
    }

    /// From the last to the first.
    pub fn descending(mut self) -> Self {
        self.request.descending = true;
        self
    }

    /// Entries of a page, at most 1,000. Default 50.
    pub fn page_size(mut self, entries: u32) -> Self {
        self.request.page_size = entries;
        self
    }

    /// Begins with the page that this token of the page before stands for; filter and order have to be
    /// the same.
    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.request.page_token = token.into();
        self
    }

    /// One page. `next_page_token` gives the next; it is empty on the last.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with INVALID_FIELD, or TOKEN_INVALID for a token of another list.
    pub async fn page(&self) -> Result<ListModelsResponse, Error> {
        let call = UnaryCall {
            method: catalog_service::LIST_MODELS,
            deadline: Some(self.client.settings().timeout),
        };
        let stub = self.client.catalog_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.list_models(request).await }
        };
        call.send(self.client.settings(), self.request.clone(), send)
            .await
    }

    /// The entries of this page and of all that follow it.
    pub fn stream(self) -> ModelStream {
        let pages = stream::try_unfold(Some(self), |list| async move {
            let Some(list) = list else { return Ok(None) };
            let page = list.page().await?;
            let entries = stream::iter(page.models.into_iter().map(Ok));
            list.following(page.next_page_token)
                .map(|next| Some((entries, next)))
        });
        ModelStream(pages.try_flatten().boxed())
    }

    /// The list of what is behind `token`. `None`: that was the last page.
    fn following(self, token: String) -> Result<Option<Self>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        if token == self.request.page_token {
            return Err(Error::Protocol("a page led to itself"));
        }
        Ok(Some(self.page_token(token)))
    }

    fn filter(&mut self) -> &mut ModelFilter {
        self.request.filter.get_or_insert_default()
    }
}

impl ModelStream {
    /// The next entry. `None` after the last one or an error.
    pub async fn next(&mut self) -> Option<Result<Model, Error>> {
        self.0.next().await
    }
}

impl Stream for ModelStream {
    type Item = Result<Model, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for ModelStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStream").finish_non_exhaustive()
    }
}
