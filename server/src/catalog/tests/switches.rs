//! Switches of aliases.

use std::time::SystemTime;

use super::*;
use crate::model::{Switch, SwitchId, SwitchOutcome, SwitchStrategy};

fn switch(alias: &str, from: Option<&str>, to: &str) -> Switch {
    Switch {
        id: SwitchId::random(),
        alias: id(alias),
        from: from.map(id),
        to: id(to),
        strategy: SwitchStrategy::LoadFirst,
        outcome: None,
        failure: None,
        began: SystemTime::now(),
        ended: None,
    }
}

fn ended(switch: &Switch, outcome: SwitchOutcome) -> Switch {
    Switch {
        outcome: Some(outcome),
        ended: Some(SystemTime::now()),
        ..switch.clone()
    }
}

const MOVED: Option<AliasMove> = Some(AliasMove { unload_old: true });

impl TestCatalog {
    /// Begins `switch`, whose new model is registered.
    async fn begin_switch(&self, switch: &Switch) {
        let request = LoadRequest {
            name: switch.to.clone(),
            spec: None,
            desired: false,
        };
        let made = switch.clone();
        let begun = self.catalog.begin_switch(request, move |_| made).await;
        begun.expect("begun");
    }

    /// Switches `alias` to the model `to`.
    pub(super) async fn switch(&self, alias: &str, to: &str) {
        let begun = switch(alias, None, to);
        self.begin_switch(&begun).await;
        let done = ended(&begun, SwitchOutcome::Succeeded);
        self.catalog.end_switch(&done, MOVED).await.expect("ended");
    }
}

#[bounded::test]
async fn an_alias_moves_with_what_is_desired_in_one_step() {
    let fixture = TestCatalog::new();
    let old = fixture.create_with("old", &["a"]).await.expect("created");
    fixture.create("new").await;
    fixture
        .catalog
        .set_desired(&old.id, true)
        .await
        .expect("set");
    let begun = switch("a", Some("old"), "new");
    fixture.begin_switch(&begun).await;
    assert_eq!(fixture.catalog.resolve(&id("a")), id("old"));
    let left = fixture.after_a_crash();
    let unfinished = left.catalog.switches(10).await.expect("readable");
    assert_eq!(unfinished, std::slice::from_ref(&begun));

    let done = ended(&begun, SwitchOutcome::Succeeded);
    fixture
        .catalog
        .end_switch(&done, MOVED)
        .await
        .expect("ended");
    assert_eq!(fixture.catalog.resolve(&id("a")), id("new"));
    let left = fixture.after_a_crash();
    assert_eq!(left.catalog.switches(10).await, Ok(vec![done]));
    let desired =
        |entry: Option<CatalogEntry>| entry.map(|entry| (entry.desired, entry.aliases.len()));
    assert_eq!(desired(left.entry("old").await), Some((false, 0)));
    assert_eq!(desired(left.entry("new").await), Some((true, 1)));
}

#[bounded::test]
async fn a_switch_that_fails_leaves_the_alias() {
    let fixture = TestCatalog::new();
    fixture.create_with("old", &["a"]).await.expect("created");
    fixture.create("new").await;
    let begun = switch("a", Some("old"), "new");
    fixture.begin_switch(&begun).await;
    let done = ended(&begun, SwitchOutcome::RolledBack);
    fixture
        .catalog
        .end_switch(&done, None)
        .await
        .expect("ended");
    assert_eq!(fixture.catalog.resolve(&id("a")), id("old"));
    assert_eq!(fixture.catalog.switches(10).await, Ok(vec![done]));
}

#[bounded::test]
async fn an_alias_is_made_but_never_of_a_models_id() {
    let fixture = TestCatalog::new();
    fixture.create("m").await;
    fixture.create("n").await;
    let first = ended(&switch("a", None, "m"), SwitchOutcome::Succeeded);
    fixture
        .catalog
        .end_switch(&first, MOVED)
        .await
        .expect("ended");
    assert_eq!(fixture.catalog.resolve(&id("a")), id("m"));
    let wrong = ended(&switch("n", None, "m"), SwitchOutcome::Succeeded);
    let refused = fixture.catalog.end_switch(&wrong, MOVED).await;
    assert!(matches!(refused, Err(RegisterError::Taken(taken)) if taken.by == id("n")));
    let gone = ended(&switch("b", None, "gone"), SwitchOutcome::Succeeded);
    let refused = fixture.catalog.end_switch(&gone, MOVED).await;
    assert!(matches!(refused, Err(RegisterError::Unknown(model)) if model == id("gone")));
    assert_eq!(
        fixture.catalog.switches(10).await.map(|all| all.len()),
        Ok(1)
    );
}

#[bounded::test]
async fn only_the_last_switch_of_an_alias_is_remembered() {
    let fixture = TestCatalog::new();
    fixture.create("m").await;
    let mut last = Vec::new();
    for alias in ["b", "a", "b", "b"] {
        let done = ended(&switch(alias, None, "m"), SwitchOutcome::Succeeded);
        fixture
            .catalog
            .end_switch(&done, MOVED)
            .await
            .expect("ended");
        last.retain(|known: &Switch| known.alias != done.alias);
        last.push(done);
    }
    last.sort_by(|x, y| x.alias.cmp(&y.alias));
    assert_eq!(fixture.catalog.switches(10).await, Ok(last.clone()));
    assert_eq!(fixture.catalog.switches(1).await, Ok(vec![last[0].clone()]));
}
