//! Setters and the paths that they name.

use super::*;
use crate::catalog::spec_fields::spec_fields;

/// Fields of a spec without a setter: what seldom changes is given with `spec_fields`.
const WITHOUT_SETTER: [&str; 10] = [
    "source",
    "provider",
    "languages",
    "capabilities",
    "kind",
    "format",
    "adapters",
    "chat_template",
    "tokenizer",
    "memory_hint",
];

fn update() -> UpdateModel {
    let client = Client::connect_lazy("http://127.0.0.1:1").unwrap();
    UpdateModel::new(client, "m".to_owned())
}

fn paths(update: &UpdateModel) -> Vec<&str> {
    let mask = update.request.update_mask.as_ref().unwrap();
    mask.paths.iter().map(String::as_str).collect()
}

#[bounded::test]
async fn a_setter_names_only_its_own_field() {
    let update = update()
        .temperature(0.5)
        .top_p(None)
        .priority(3)
        .pinned(false);
    let expected = [
        "spec.generation_defaults.sampling.temperature",
        "spec.generation_defaults.sampling.top_p",
        "spec.priority",
        "spec.pinned",
    ];
    assert_eq!(paths(&update), expected);
    let spec = update.request.model.unwrap().spec.unwrap();
    let sampling = spec.generation_defaults.unwrap().sampling.unwrap();
    assert_eq!((sampling.temperature, sampling.top_p), (Some(0.5), None));
    assert_eq!(spec.priority, 3);
}

#[bounded::test]
async fn a_field_that_is_set_twice_is_named_once() {
    let update = update().priority(3).priority(4);
    assert_eq!(paths(&update), ["spec.priority"]);
}

#[bounded::test]
async fn fields_of_a_spec_are_named_below_it() {
    let spec = ModelSpec {
        description: "d".to_owned(),
        ..Default::default()
    };
    let update = update().spec_fields(spec.clone(), ["description", "memory_hint.host_bytes"]);
    assert_eq!(
        paths(&update),
        ["spec.description", "spec.memory_hint.host_bytes"]
    );
    assert_eq!(update.request.model.unwrap().spec, Some(spec));
}

#[bounded::test]
async fn aliases_and_the_whole_spec_are_fields_of_the_entry() {
    let update = update().spec(ModelSpec::default()).aliases(["a"]);
    assert_eq!(paths(&update), ["spec", "aliases"]);
}

#[bounded::test]
fn every_field_of_a_spec_has_a_setter_or_is_known_to_have_none() {
    let setters = include_str!("../update.rs");
    for field in spec_fields() {
        let is_set = setters.contains(&format!("in_spec(\"{field}\""));
        let has_none = WITHOUT_SETTER.contains(&&*field);
        assert_ne!(
            is_set, has_none,
            "{field}: a setter, or a place in this list"
        );
    }
}
