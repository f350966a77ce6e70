//! Lists in pages.

use std::collections::BTreeSet;

use super::*;
use crate::model::ModelKind;

fn orders() -> impl Iterator<Item = (ListOrder, bool)> {
    let orders = [ListOrder::Id, ListOrder::Created, ListOrder::Updated];
    orders
        .into_iter()
        .flat_map(|order| [(order, false), (order, true)])
}

async fn fill(fixture: &TestCatalog, names: impl Iterator<Item = String>) {
    let declared = names.map(|name| new(&name)).collect();
    fixture.catalog.declare(declared).await.expect("declared");
}

#[bounded::test]
async fn pages_neither_repeat_nor_miss_while_entries_come_and_go() {
    for (order, descending) in orders() {
        let fixture = TestCatalog::new();
        fill(
            &fixture,
            (0..1_000).map(|n| format!("m{:03}", n * 7 % 1_000)),
        )
        .await;
        let mut seen = Vec::new();
        let mut after = None;
        for n in 0.. {
            let page = fixture
                .catalog
                .list(ListQuery {
                    order,
                    descending,
                    after,
                    limit: 64,
                    ..ListQuery::default()
                })
                .await
                .expect("a page");
            assert_eq!(page.total, 1_000 + n);
            seen.extend(page.entries.into_iter().map(|entry| entry.id));
            fixture.create(&format!("new{n}")).await;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let stayed: Vec<_> = seen
            .iter()
            .filter(|id| id.as_str().starts_with('m'))
            .collect();
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!(stayed.len(), 1_000, "{order:?} {descending}");
        assert_eq!(distinct.len(), seen.len(), "{order:?} {descending}");
    }
}

#[bounded::test]
async fn the_last_entry_of_a_page_may_go_before_the_next_one_is_asked_for() {
    for (order, descending) in orders() {
        let fixture = TestCatalog::new();
        for name in ["a", "b", "c", "d"] {
            fixture.create(name).await;
        }
        let query = ListQuery {
            order,
            descending,
            limit: 2,
            ..ListQuery::default()
        };
        let first = fixture.catalog.list(query.clone()).await.expect("a page");
        let last = first.next.clone().expect("more");
        let deleted = fixture.catalog.delete(&last.id, None, false, None);
        deleted.await.expect("deleted");
        let rest = ListQuery {
            after: Some(last),
            ..query
        };
        let second = fixture.catalog.list(rest).await.expect("a page");
        assert_eq!((second.entries.len(), second.total), (2, 3));
        assert!(second.next.is_none());
        let shown: Vec<_> = first.entries.iter().chain(&second.entries).collect();
        let mut ids: Vec<_> = shown.iter().map(|entry| entry.id.to_string()).collect();
        if descending {
            ids.reverse();
        }
        assert_eq!(ids, ["a", "b", "c", "d"], "{order:?} {descending}");
    }
}

#[bounded::test]
async fn an_empty_catalog_is_an_empty_page() {
    let page = TestCatalog::new()
        .catalog
        .list(ListQuery {
            limit: 10,
            ..ListQuery::default()
        })
        .await
        .expect("a page");
    assert!(page.entries.is_empty() && page.next.is_none() && page.total == 0);
}

#[bounded::test]
async fn the_order_by_update_follows_changes() {
    let fixture = TestCatalog::new();
    let first = fixture.create("a").await;
    fixture.create("b").await;
    fixture
        .catalog
        .update(&first.id, change(&first, named("new")), None)
        .await
        .expect("updated");
    let page = fixture
        .catalog
        .list(ListQuery {
            order: ListOrder::Updated,
            limit: 10,
            ..ListQuery::default()
        })
        .await
        .expect("a page");
    let ids: Vec<_> = page.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, ["b", "a"]);
}

/// A spec of files, with labels.
fn labelled(kind: Option<ModelKind>, labels: &[(&str, &str)]) -> Spec {
    Spec {
        kind,
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Spec::of(Source::Path("/models/m".into()))
    }
}

fn filter(
    source: Option<SourceKind>,
    kind: Option<ModelKind>,
    labels: &[(&str, Option<&str>)],
) -> ListFilter {
    ListFilter {
        source,
        kind,
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
            .collect(),
    }
}

#[bounded::test]
async fn all_parts_of_a_filter_have_to_match() {
    let fixture = TestCatalog::new();
    for (name, spec) in [
        ("demo", Spec::of(Source::Demo)),
        ("text", labelled(Some(ModelKind::Text), &[("team", "a")])),
        (
            "vectors",
            labelled(Some(ModelKind::Embedding), &[("team", "b")]),
        ),
        ("both", labelled(None, &[("team", "a"), ("tier", "1")])),
    ] {
        let entry = fixture.catalog.create(NewEntry { spec, ..new(name) }, None);
        entry.await.expect("created");
    }
    // A load says what the spec does not.
    let mut learned = Box::new(LearnedFacts::default());
    learned.metadata.kind = Some(ModelKind::Text);
    fixture
        .catalog
        .defer_write(&id("vectors"), DeferredWrite::Learned(learned.clone()));
    fixture
        .catalog
        .defer_write(&id("both"), DeferredWrite::Learned(learned));
    fixture.create("last").await;

    let both = filter(None, None, &[("team", Some("a")), ("tier", None)]);
    let neither = filter(Some(SourceKind::Demo), None, &[("team", None)]);
    let of_text = filter(None, Some(ModelKind::Text), &[]);
    let of_files = filter(Some(SourceKind::Path), None, &[]);
    for (filter, expected) in [
        (of_files, vec!["both", "text", "vectors"]),
        (of_text, vec!["both", "text"]),
        (both, vec!["both"]),
        (neither, vec![]),
    ] {
        let query = ListQuery {
            filter: filter.clone(),
            limit: 10,
            ..ListQuery::default()
        };
        let page = fixture.catalog.list(query).await.expect("a page");
        let ids: Vec<_> = page.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, expected, "{filter:?}");
        assert_eq!(page.total, expected.len() as u64);
    }
}

#[bounded::test]
async fn pages_come_from_an_index() {
    let fixture = TestCatalog::new();
    fixture.create("m").await;
    for (order, index) in [
        ("id", "sqlite_autoindex_models_1"),
        ("created, id", "models_by_creation"),
        ("updated, id", "models_by_update"),
    ] {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT {} FROM models WHERE ({order}) > ({}) ORDER BY {order} LIMIT 10",
            row::COLUMNS,
            order
                .replace("created", "1")
                .replace("updated", "1")
                .replace("id", "'m'"),
        );
        let plan = fixture.catalog.read(move |connection| {
            let mut statement = connection.prepare(&sql)?;
            let steps = statement.query_map([], |row| row.get::<_, String>(3))?;
            steps.collect::<rusqlite::Result<Vec<_>>>()
        });
        let plan = plan.await.expect("a plan").join("; ");
        assert!(plan.contains(index), "{plan}");
        assert!(!plan.contains("ORDER BY id DESC"), "{plan}");
        let outer = plan.split("CORRELATED").next().unwrap_or_default();
        assert!(
            !outer.contains("TEMP B-TREE") && !outer.contains("SCAN models"),
            "{plan}"
        );
    }
}
