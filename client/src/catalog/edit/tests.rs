//! Which fields of a spec an edit writes.

use prost::Message;
use prost_types::FileDescriptorSet;

use super::*;
use crate::v1::{FILE_DESCRIPTOR_SET, MemoryHint, ModelSpec};

#[test]
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

#[test]
fn every_field_of_a_spec_is_compared() {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let spec = files
        .iter()
        .flat_map(|file| &file.message_type)
        .find(|message| message.name() == "ModelSpec")
        .unwrap();
    let source = include_str!("../update.rs");
    let (_, list) = source.split_once("old, new,\n").unwrap();
    let (list, _) = list.split_once(')').unwrap();
    let compared: Vec<_> = list.split_whitespace().collect();
    let fields: Vec<_> = spec.field.iter().map(|field| field.name()).collect();
    assert_eq!(compared, fields);
}
