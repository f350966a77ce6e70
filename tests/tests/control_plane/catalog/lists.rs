//! ListModels.

use std::collections::BTreeMap;

use hangar_client::{
    inference::{
        RepositoryIndexRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
    },
    v1::{
        InfoView, ListModelsRequest, ListModelsResponse, ModelFilter, ModelKind, ModelOrder,
        SourceKind,
    },
};
use hangar_tests::processes;
use prost::Message;

use super::*;

impl CatalogServer {
    async fn list(&mut self, request: &ListModelsRequest) -> Result<ListModelsResponse, Status> {
        let response = self.catalog.list_models(request.clone()).await?;
        Ok(response.into_inner())
    }

    /// All pages of what `request` asks for.
    async fn pages(&mut self, request: &ListModelsRequest) -> Result<Vec<Vec<String>>> {
        let mut request = request.clone();
        let mut pages = Vec::new();
        loop {
            let page = self.list(&request).await?;
            pages.push(page.models.into_iter().map(|m| m.model_id).collect());
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return Ok(pages);
            }
        }
    }
}

fn by(order: ModelOrder, descending: bool) -> ListModelsRequest {
    ListModelsRequest {
        page_size: 2,
        order_by: order.into(),
        descending,
        ..ListModelsRequest::default()
    }
}

#[hangar_tests::test]
async fn an_empty_catalog_is_an_empty_page() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let page = server.list(&ListModelsRequest::default()).await?;
    assert_eq!(page, ListModelsResponse::default());
    Ok(())
}

#[hangar_tests::test]
async fn pages_follow_each_other_in_every_order() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let mut first = None;
    for id in ["c", "a", "e", "b", "d"] {
        let created = server.create(id).await?;
        first.get_or_insert(created);
    }
    let first = first.context("an entry")?;
    server.update(renamed(&first, "new")).await?;
    for (order, expected) in [
        (ModelOrder::Unspecified, ["a", "b", "c", "d", "e"]),
        (ModelOrder::Id, ["a", "b", "c", "d", "e"]),
        (ModelOrder::CreateTime, ["c", "a", "e", "b", "d"]),
        (ModelOrder::UpdateTime, ["a", "e", "b", "d", "c"]),
    ] {
        let pages = server.pages(&by(order, false)).await?;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(pages.concat(), expected, "{order:?}");
        let mut reversed = server.pages(&by(order, true)).await?.concat();
        reversed.reverse();
        assert_eq!(reversed, expected, "{order:?}");
        let page = server.list(&by(order, false)).await?;
        assert_eq!(page.total_size, 5);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_page_goes_on_where_the_one_before_ended_whatever_came_and_went() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    for id in ["b", "d", "f"] {
        server.create(id).await?;
    }
    let mut request = by(ModelOrder::Id, false);
    let page = server.list(&request).await?;
    request.page_token = page.next_page_token;
    server.delete("d", false).await?;
    server.create("a").await?;
    server.create("e").await?;
    let page = server.list(&request).await?;
    let ids: Vec<_> = page.models.iter().map(|m| m.model_id.as_str()).collect();
    assert_eq!(ids, ["e", "f"]);
    assert_eq!((page.total_size, &*page.next_page_token), (4, ""));
    Ok(())
}

/// Registers a model with these labels.
async fn labelled(
    server: &mut CatalogServer,
    id: &str,
    spec: ModelSpec,
    labels: &[(&str, &str)],
) -> Result<()> {
    let request = CreateModelRequest {
        spec: Some(ModelSpec {
            labels: owned(labels),
            ..spec
        }),
        ..new(id)
    };
    server.catalog.create_model(request).await?;
    Ok(())
}

fn owned(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let labels = labels.iter();
    labels
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[hangar_tests::test]
async fn filters_find_what_matches_all_of_them() -> Result<()> {
    const ANY: SourceKind = SourceKind::Unspecified;
    let mut server = CatalogServer::new().await?;
    let directory = server.fixtures.directory("m")?;
    let of = |source: Option<ModelSource>, kind: ModelKind| ModelSpec {
        source,
        kind: kind.into(),
        ..ModelSpec::default()
    };
    let demo = of(demo(), ModelKind::Text);
    labelled(&mut server, "demo", demo, &[("team", "a")]).await?;
    let path = of(from(&directory), ModelKind::Text);
    labelled(&mut server, "path", path, &[("team", "b")]).await?;
    let both = of(from(&directory), ModelKind::Unspecified);
    labelled(&mut server, "both", both, &[("team", "a"), ("tier", "1")]).await?;
    let filter = |source: SourceKind, kind: ModelKind, labels: &[(&str, &str)]| ModelFilter {
        source: source.into(),
        kind: kind.into(),
        labels: owned(labels),
    };
    let any = ModelKind::Unspecified;
    let tiered = [("team", ""), ("tier", "1")];
    for (filter, expected) in [
        (filter(ANY, any, &[]), vec!["both", "demo", "path"]),
        (filter(SourceKind::Path, any, &[]), vec!["both", "path"]),
        (filter(ANY, ModelKind::Text, &[]), vec!["demo", "path"]),
        (filter(ANY, any, &[("team", "a")]), vec!["both", "demo"]),
        (filter(ANY, any, &tiered), vec!["both"]),
        (
            filter(SourceKind::Demo, ModelKind::Text, &[("team", "b")]),
            vec![],
        ),
    ] {
        let request = ListModelsRequest {
            filter: Some(filter),
            page_size: 2,
            ..ListModelsRequest::default()
        };
        assert_eq!(server.pages(&request).await?.concat(), expected);
        let page = server.list(&request).await?;
        assert_eq!(page.total_size, expected.len() as u64);
    }
    Ok(())
}

#[hangar_tests::test]
async fn tokens_that_are_forged_foreign_or_cut_are_refused() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    for id in ["a", "b", "c"] {
        server.create(id).await?;
    }
    let request = by(ModelOrder::Id, false);
    let token = server.list(&request).await?.next_page_token;
    let with = |token: &str, request: &ListModelsRequest| ListModelsRequest {
        page_token: token.to_owned(),
        ..request.clone()
    };
    let last = token.chars().next_back().context("a token")?;
    let forged = format!(
        "{}{}",
        &token[..token.len() - 1],
        if last == '0' { '1' } else { '0' }
    );
    let filtered = ListModelsRequest {
        filter: Some(ModelFilter {
            source: SourceKind::Demo.into(),
            ..ModelFilter::default()
        }),
        ..request.clone()
    };
    let mut other = CatalogServer::new().await?;
    for id in ["a", "b", "c"] {
        other.create(id).await?;
    }
    let foreign = other.list(&request).await?.next_page_token;
    for bad in [
        with(&forged, &request),
        with(&token[..token.len() - 2], &request),
        with("x", &request),
        with(&foreign, &request),
        with(&token, &filtered),
        with(&token, &by(ModelOrder::Id, true)),
        with(&token, &by(ModelOrder::CreateTime, false)),
    ] {
        let refused = server.list(&bad).await;
        refusal(refused, Code::InvalidArgument, ErrorReason::TokenInvalid);
    }
    // Another size of pages is no other list, and a restart is none either.
    let larger = ListModelsRequest {
        page_size: 1000,
        ..with(&token, &request)
    };
    assert_eq!(server.list(&larger).await?.models.len(), 1);
    Ok(())
}

#[hangar_tests::test]
async fn all_violations_of_a_list_are_reported_at_once() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    let request = ListModelsRequest {
        page_size: 1001,
        order_by: 99,
        filter: Some(ModelFilter {
            source: 99,
            kind: 99,
            labels: [(String::new(), String::new())].into(),
        }),
        ..ListModelsRequest::default()
    };
    let mut fields = wrong_fields(server.list(&request).await);
    fields.sort();
    assert_eq!(
        fields,
        [
            "filter.kind",
            "filter.labels",
            "filter.source",
            "order_by",
            "page_size"
        ]
    );
    Ok(())
}

#[hangar_tests::test]
async fn a_page_is_never_larger_than_clients_take() -> Result<()> {
    let mut server = CatalogServer::new().await?;
    // 300 entries of some 17 kB each.
    let labels = |n: usize| (format!("{n:063}"), "v".repeat(63));
    let ids: Vec<_> = (0..300).map(|n| format!("m{n:03}")).collect();
    for id in &ids {
        let request = CreateModelRequest {
            spec: Some(ModelSpec {
                source: demo(),
                description: "é".repeat(4096),
                labels: (0..64).map(labels).collect(),
                ..ModelSpec::default()
            }),
            ..new(id)
        };
        server.catalog.create_model(request).await?;
    }
    let request = ListModelsRequest {
        page_size: 1000,
        ..ListModelsRequest::default()
    };
    let pages = server.pages(&request).await?;
    assert!(pages.len() > 1 && pages.iter().all(|page| !page.is_empty()));
    assert_eq!(pages.concat(), ids);
    Ok(())
}

#[hangar_tests::test]
async fn what_lists_all_models_does_not_hold_all_their_specs() -> Result<()> {
    const MODELS: usize = 300;
    let mut server = CatalogServer::new().await?;
    let ids: Vec<_> = (0..MODELS).map(|n| format!("m{n:03}")).collect();
    for id in &ids {
        // 75 MB altogether.
        let spec = ModelSpec {
            source: demo(),
            chat_template: "x".repeat(250 << 10),
            ..ModelSpec::default()
        };
        let request = CreateModelRequest {
            spec: Some(spec),
            ..new(id)
        };
        server.catalog.create_model(request).await?;
    }
    let before = processes::peak_bytes(server.pid())?;
    let mut stub = GrpcInferenceServiceClient::connect(server.url()).await?;
    let index = stub.repository_index(RepositoryIndexRequest::default());
    let index = index.await?.into_inner().models;
    let named: Vec<_> = index.into_iter().map(|model| model.name).collect();
    assert_eq!(named, ids);
    let grown = processes::peak_bytes(server.pid())? - before;
    assert!(grown < 32 << 20, "{grown}");

    let basic = server.client.info().send().await?;
    assert_eq!((basic.models.len(), basic.truncated), (MODELS, false));
    let full = server.client.info().view(InfoView::Full).send().await?;
    assert!(full.truncated && full.models.len() > 1);
    assert!(full.encoded_len() < 4 << 20);
    let request = ListModelsRequest {
        page_size: 1000,
        ..ListModelsRequest::default()
    };
    assert_eq!(server.pages(&request).await?.concat(), ids);
    Ok(())
}
