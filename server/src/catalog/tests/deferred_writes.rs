//! What is written down without anybody waiting.

use super::*;
use crate::model::{LoadId, SuspendCause, Suspension, SwitchId};

fn suspension() -> Option<Suspension> {
    Some(Suspension {
        cause: SuspendCause::Idle,
        message: "idle".to_owned(),
    })
}

fn attempt(number: u32) -> LoadAttempt {
    LoadAttempt {
        load_id: LoadId::from("load".to_owned()),
        number,
    }
}

#[bounded::test]
async fn a_later_call_finds_what_was_noted_before() {
    let fixture = TestCatalog::new();
    let entry = fixture.create("m").await;
    fixture
        .catalog
        .set_desired(&entry.id, true)
        .await
        .expect("set");
    fixture
        .catalog
        .defer_write(&entry.id, DeferredWrite::Suspended(suspension()));
    fixture.create("n").await;
    let entry = fixture.entry("m").await.expect("there");
    assert_eq!((entry.desired, entry.suspended), (true, suspension()));
    fixture
        .catalog
        .defer_write(&entry.id, DeferredWrite::Suspended(suspension()));
    fixture
        .catalog
        .set_desired(&entry.id, true)
        .await
        .expect("set");
    let entry = fixture.entry("m").await.expect("there");
    assert_eq!(entry.suspended, None);
}

#[bounded::test]
async fn clearing_the_desired_state_ends_the_suspension() {
    let fixture = TestCatalog::new();
    let entry = fixture.create("m").await;
    fixture
        .catalog
        .defer_write(&entry.id, DeferredWrite::Suspended(suspension()));
    fixture
        .catalog
        .set_desired(&entry.id, false)
        .await
        .expect("set");
    let entry = fixture.entry("m").await.expect("there");
    assert_eq!((entry.desired, entry.suspended), (false, None));
}

#[bounded::test]
async fn the_last_note_counts_and_closing_writes_it() {
    let fixture = TestCatalog::new();
    let entry = fixture.create("m").await;
    for n in 0..1_000 {
        let learned = Box::new(LearnedFacts {
            loads_failed: n,
            ..LearnedFacts::default()
        });
        fixture
            .catalog
            .defer_write(&entry.id, DeferredWrite::Learned(learned));
    }
    let fixture = fixture.reopened().await;
    let entry = fixture.entry("m").await.expect("there");
    assert_eq!(entry.learned.loads_failed, 999);
}

#[bounded::test]
async fn the_end_of_an_attempt_takes_its_own_marker_only() {
    let fixture = TestCatalog::new();
    let entry = fixture.create("m").await;
    let begin = fixture.catalog.begin_attempt(&entry.id, attempt(1));
    begin.await.expect("begun");
    fixture
        .catalog
        .defer_write(&entry.id, DeferredWrite::AttemptEnded(attempt(2)));
    fixture.create("n").await;
    let marked = fixture.entry("m").await.and_then(|entry| entry.attempt);
    assert_eq!(marked, Some(attempt(1)));
    fixture
        .catalog
        .defer_write(&entry.id, DeferredWrite::AttemptEnded(attempt(1)));
    let begin = fixture.catalog.begin_attempt(&entry.id, attempt(2));
    begin.await.expect("begun");
    let marked = fixture.entry("m").await.and_then(|entry| entry.attempt);
    assert_eq!(marked, Some(attempt(2)));
}

#[bounded::test]
async fn a_marker_survives_a_crash() {
    let fixture = TestCatalog::new();
    let entry = fixture.create("m").await;
    let begin = fixture.catalog.begin_attempt(&entry.id, attempt(1));
    begin.await.expect("begun");
    let left = fixture.after_a_crash();
    let found = left.catalog.to_reconcile().await.expect("readable");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].attempt, Some(attempt(1)));
}

#[bounded::test]
async fn wanted_models_come_in_their_order() {
    let fixture = TestCatalog::new();
    let spec = |required, preload, priority| Spec {
        required,
        preload,
        priority,
        ..named("m")
    };
    for (name, spec) in [
        ("unwanted", spec(false, false, 9)),
        ("desired", spec(false, false, 3)),
        ("preloaded", spec(false, true, 5)),
        ("required-late", spec(true, false, 1)),
        ("required-soon", spec(true, false, 2)),
    ] {
        let entry = fixture.catalog.create(NewEntry { spec, ..new(name) }, None);
        entry.await.expect("created");
    }
    fixture
        .catalog
        .set_desired(&id("desired"), true)
        .await
        .expect("set");
    let found = fixture.catalog.to_reconcile().await.expect("readable");
    let ids: Vec<_> = found.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(
        ids,
        ["required-soon", "required-late", "preloaded", "desired"]
    );
}

#[bounded::test]
async fn the_generation_is_another_one_after_each_commit_and_no_refusal() {
    let fixture = TestCatalog::new();
    let catalog = &fixture.catalog;
    let mut before = catalog.generation();
    let entry = fixture.create("m").await;
    assert_ne!(catalog.generation(), before);

    before = catalog.generation();
    let again = NewEntry {
        id: entry.id.clone(),
        spec: Spec::clone(&entry.spec),
        aliases: Vec::new(),
        origin: ModelOrigin::Api,
    };
    assert!(catalog.create(again.clone(), None).await.is_err());
    assert!(catalog.check_create(again).await.is_err());
    assert!(catalog.get(&entry.id).await.is_ok());
    assert_eq!(catalog.generation(), before);

    catalog.defer_write(&entry.id, DeferredWrite::Suspended(suspension()));
    // Comes after what was deferred, and changes nothing by itself.
    assert!(
        catalog
            .switch_after_writes(&SwitchId::random())
            .await
            .is_ok()
    );
    assert_ne!(catalog.generation(), before);
}
