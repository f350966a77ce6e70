//! ListModels.

use hangar_client::v1::{ListModelsRequest, ListModelsResponse, ModelKind, ModelOrder, SourceKind};
use prost::Message;

use super::{CatalogHandlers, message, page_token};
use crate::{
    catalog::{self, ListFilter, ListOrder, ListQuery},
    rpc::{
        MAX_MODELS_BYTES,
        error::{ApiError, CatalogRefusal},
        validate::Violations,
    },
    wire,
};

/// Entries of a page, where the request does not say and at most.
const PAGE: usize = 50;
const MAX_PAGE: u32 = 1000;

/// Labels of a filter.
const MAX_LABELS: usize = 64;

impl CatalogHandlers {
    pub(super) async fn list(
        &self,
        request: ListModelsRequest,
    ) -> Result<ListModelsResponse, ApiError> {
        let mut query = query(&request)?;
        let key = self.fleet.catalog().page_key();
        if !request.page_token.is_empty() {
            let position = page_token::read(key, &request);
            query.after = Some(position.ok_or(CatalogRefusal::PageToken)?);
        }
        let order = query.order;
        let page = self.fleet.catalog().list(query).await?;
        let mut next = page.next;
        let mut models = Vec::new();
        let mut bytes = 0;
        for (n, entry) in page.entries.iter().enumerate() {
            let model = message::model(entry);
            bytes += model.encoded_len();
            if bytes > MAX_MODELS_BYTES && n > 0 {
                // The rest goes to the next page.
                next = Some(order.position(&page.entries[n - 1]));
                break;
            }
            models.push(model);
        }
        let token = next.map(|position| page_token::write(key, &request, &position));
        Ok(ListModelsResponse {
            models,
            next_page_token: token.unwrap_or_default(),
            total_size: page.total,
        })
    }
}

/// The first page of what `request` asks for.
fn query(request: &ListModelsRequest) -> Result<ListQuery, ApiError> {
    let mut violations = Violations::default();
    let size = request.page_size <= MAX_PAGE;
    violations.check(size, "page_size", "must be at most 1000");
    let filter = request.filter.clone().unwrap_or_default();
    let source = violations.check_result("filter.source", SourceKind::try_from(filter.source));
    let kind = violations.check_result("filter.kind", ModelKind::try_from(filter.kind));
    let order = violations.check_result("order_by", ModelOrder::try_from(request.order_by));
    let labels = filter.labels.len() <= MAX_LABELS
        && filter
            .labels
            .iter()
            .all(|(key, value)| !key.is_empty() && key.len() <= 63 && value.len() <= 63);
    violations.check(
        labels,
        "filter.labels",
        "must have at most 64 entries with keys of 1 to 63 and values of up to 63 bytes",
    );
    violations.finish()?;
    let source = match source.unwrap_or_default() {
        SourceKind::Unspecified => None,
        SourceKind::Path => Some(catalog::SourceKind::Path),
        SourceKind::HuggingFace => Some(catalog::SourceKind::HuggingFace),
        SourceKind::Demo => Some(catalog::SourceKind::Demo),
    };
    let any = |value: String| (!value.is_empty()).then_some(value);
    let labels = filter.labels.into_iter();
    Ok(ListQuery {
        filter: ListFilter {
            source,
            kind: kind.and_then(wire::read_kind),
            labels: labels.map(|(key, value)| (key, any(value))).collect(),
        },
        order: match order.unwrap_or_default() {
            ModelOrder::Unspecified | ModelOrder::Id => ListOrder::Id,
            ModelOrder::CreateTime => ListOrder::Created,
            ModelOrder::UpdateTime => ListOrder::Updated,
        },
        descending: request.descending,
        after: None,
        limit: match request.page_size {
            0 => PAGE,
            size => usize::try_from(size).unwrap_or(PAGE),
        },
    })
}
