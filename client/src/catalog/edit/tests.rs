//! Which fields of a spec an edit writes.

use super::*;
use crate::{
    catalog::spec_fields::spec_fields,
    v1::{MemoryHint, ModelSpec},
};

#[bounded::test]
fn only_fields_that_differ_are_written() {
    let old = ModelSpec {
        description: "d".to_owned(),
        priority: 1,
        ..Default::default()
    };
    let mut new = old.clone();
    assert!(changed_fields(&old, &new).is_empty());
    new.priority = 2;
    new.memory_hint = Some(MemoryHint::default());
    assert_eq!(changed_fields(&old, &new), ["memory_hint", "priority"]);
}

#[bounded::test]
fn every_field_of_a_spec_is_compared() {
    let source = include_str!("../update.rs");
    let (_, list) = source.split_once("old, new,\n").unwrap();
    let (list, _) = list.split_once(')').unwrap();
    let compared: Vec<_> = list.split_whitespace().collect();
    assert_eq!(compared, spec_fields());
}
