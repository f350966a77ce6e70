//! Masks.

use hangar_client::v1::{
    DemoSource, GenerationDefaults, ModelSource, ModelSpec, Sampling, model_source::Source,
};

use super::*;

fn entry(spec: ModelSpec) -> v1::Model {
    v1::Model {
        model_id: "m".to_owned(),
        spec: Some(spec),
        ..v1::Model::default()
    }
}

fn current() -> v1::Model {
    let sampling = Sampling {
        temperature: Some(0.5),
        top_k: Some(40),
        ..Sampling::default()
    };
    entry(ModelSpec {
        source: Some(ModelSource {
            source: Some(Source::Demo(DemoSource {})),
        }),
        display_name: "old".to_owned(),
        description: "kept".to_owned(),
        languages: vec!["en".to_owned()],
        priority: 7,
        generation_defaults: Some(GenerationDefaults {
            sampling: Some(sampling),
            max_tokens: 9,
            ..GenerationDefaults::default()
        }),
        ..ModelSpec::default()
    })
}

fn apply(paths: &[&str], given: &v1::Model) -> v1::Model {
    let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
    let mut violations = Violations::default();
    let mask = Mask::parse(&paths, &mut violations).expect("descriptors");
    violations.finish().expect("a good mask");
    mask.apply(given, &current()).expect("descriptors")
}

fn changed(paths: &[&str], given: &v1::Model, change: impl FnOnce(&mut ModelSpec)) {
    let mut expected = current();
    change(expected.spec.as_mut().expect("a spec"));
    assert_eq!(apply(paths, given), expected, "{paths:?}");
}

fn wrong(paths: &[&str]) -> Vec<(String, String)> {
    let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
    let mut violations = Violations::default();
    Mask::parse(&paths, &mut violations).expect("descriptors");
    match violations.finish().map_err(ApiError::from) {
        Err(ApiError::Invalid(violations)) => violations,
        other => panic!("{other:?}"),
    }
}

#[bounded::test]
fn only_what_the_mask_names_is_changed() {
    let given = entry(ModelSpec {
        display_name: "new".to_owned(),
        description: "not named".to_owned(),
        priority: 1,
        ..ModelSpec::default()
    });
    let paths = ["spec.display_name", "spec.priority"];
    changed(&paths, &given, |spec| {
        spec.display_name = "new".to_owned();
        spec.priority = 1;
    });
}

#[bounded::test]
fn a_field_far_below_is_changed_alone() {
    let sampling = Sampling {
        temperature: Some(0.0),
        top_k: Some(1),
        ..Sampling::default()
    };
    let given = entry(ModelSpec {
        generation_defaults: Some(GenerationDefaults {
            sampling: Some(sampling),
            ..GenerationDefaults::default()
        }),
        ..ModelSpec::default()
    });
    let paths = ["spec.generation_defaults.sampling.temperature"];
    changed(&paths, &given, |spec| {
        let defaults = spec.generation_defaults.as_mut().expect("defaults");
        defaults.sampling.as_mut().expect("sampling").temperature = Some(0.0);
    });
}

#[bounded::test]
fn what_is_named_and_not_given_is_cleared() {
    let nothing = entry(ModelSpec::default());
    changed(&["spec.display_name"], &nothing, |spec| {
        spec.display_name.clear()
    });
    changed(&["spec.languages"], &nothing, |spec| spec.languages.clear());
    changed(&["spec.generation_defaults"], &nothing, |spec| {
        spec.generation_defaults = None;
    });
    let deep = ["spec.generation_defaults.sampling.top_k"];
    changed(&deep, &nothing, |spec| {
        let defaults = spec.generation_defaults.as_mut().expect("defaults");
        defaults.sampling.as_mut().expect("sampling").top_k = None;
    });
    // Without a spec at all it is the same.
    changed(&["spec.display_name"], &v1::Model::default(), |spec| {
        spec.display_name.clear();
    });
    // Nothing is made of what was not there.
    changed(&["spec.memory_hint.host_bytes"], &nothing, |_| {});
    assert_eq!(apply(&["spec"], &v1::Model::default()).spec, None);
}

#[bounded::test]
fn one_source_takes_the_place_of_another() {
    let given = entry(ModelSpec {
        source: Some(ModelSource {
            source: Some(Source::Path("/models/m".to_owned())),
        }),
        ..ModelSpec::default()
    });
    for path in ["spec.source", "spec.source.path"] {
        changed(&[path], &given, |spec| {
            spec.source = given.spec.clone().and_then(|s| s.source)
        });
    }
}

#[bounded::test]
fn paths_that_cannot_be_changed_are_all_named() {
    let bad = [
        "spec.colour",
        "uid",
        "etag",
        "version",
        "create_time.seconds",
        "model_id",
        "colour",
        "",
        "spec.",
        "spec..kind",
        "spec.labels.team",
        "spec.adapters.name",
        "spec.display_name.length",
        "spec.idle_timeout.seconds",
        "aliases.0",
        "*",
        "Spec",
    ];
    let mut paths = vec!["spec.kind", "aliases"];
    paths.extend(bad);
    let found = wrong(&paths);
    let fields: Vec<_> = found.iter().map(|(field, _)| field.clone()).collect();
    let expected: Vec<_> = (2..paths.len())
        .map(|n| format!("update_mask.paths[{n}]"))
        .collect();
    assert_eq!(fields, expected, "{found:?}");
    assert_eq!(found[1].1, "uid is output only");
    assert_eq!(found[5].1, "model_id is never changed");
}

#[bounded::test]
fn a_mask_is_required_and_bounded() {
    assert_eq!(wrong(&[])[0].0, "update_mask");
    assert_eq!(wrong(&["spec"; MAX_PATHS + 1])[0].0, "update_mask");
}
