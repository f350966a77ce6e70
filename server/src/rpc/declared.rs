//! Models of the configuration file, checked by the rules of the API.

use super::{
    error::ApiError,
    validate::{self, Violations},
};
use crate::{
    catalog::{ModelOrigin, NewEntry},
    config::{ConfigError, DeclaredModel},
    wire,
};

/// The entries that `models` become.
///
/// # Errors
///
/// What is wrong with the first model that cannot be used, all of it.
pub fn declared(models: &[DeclaredModel]) -> Result<Vec<NewEntry>, ConfigError> {
    models.iter().map(entry).collect()
}

fn entry(model: &DeclaredModel) -> Result<NewEntry, ConfigError> {
    let wrong = |what: String| ConfigError::Invalid {
        key: "models",
        message: format!("{}: {what}", model.id),
    };
    let mut violations = Violations::default();
    let message = wire::spec_message(&model.spec);
    // The keys of the file have no prefix.
    let spec = wire::read_spec(&message, "", &mut violations);
    let aliases = violations.aliases("aliases", &model.aliases, Some(&model.id));
    let refused = violations
        .finish()
        .map_err(ApiError::from)
        .and_then(|()| validate::refuse_later_fields(&message));
    refused.map_err(|error| {
        let status = tonic::Status::from(error);
        let text = status.message().replace("; .", "; ");
        let text = text.strip_prefix("spec.").unwrap_or(&text);
        wrong(text.strip_prefix('.').unwrap_or(text).to_owned())
    })?;
    Ok(NewEntry {
        id: model.id.clone(),
        spec,
        aliases,
        origin: ModelOrigin::File,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelId, Source, Spec};

    fn model(spec: Spec) -> DeclaredModel {
        DeclaredModel {
            id: ModelId::parse("m").expect("a well-formed id"),
            aliases: vec!["a".to_owned()],
            spec,
        }
    }

    #[bounded::test]
    fn a_good_model_becomes_an_entry_of_the_file() {
        let spec = Spec {
            priority: 3,
            ..Spec::of(Source::Path("/models/m".into()))
        };
        let entries = declared(&[model(spec.clone())]).expect("good");
        assert_eq!(
            (&entries[0].spec, entries[0].origin),
            (&spec, ModelOrigin::File)
        );
        assert_eq!(entries[0].aliases[0].as_str(), "a");
    }

    #[bounded::test]
    fn every_violation_of_a_model_names_its_key() {
        let mut spec = Spec {
            priority: 3_000,
            ..Spec::of(Source::Path("relative".into()))
        };
        spec.generation_defaults.sampling.temperature = Some(7.0);
        let mut model = model(spec);
        model.aliases.push("m".to_owned());
        let error = declared(&[model]).expect_err("bad").to_string();
        assert!(error.starts_with("models: m: "), "{error}");
        for part in [
            " priority: must be",
            " source.path: must be",
            " generation_defaults.sampling.temperature: must be",
            " aliases[1]: is the model's own id",
        ] {
            assert!(error.contains(part), "{part:?} not in {error:?}");
        }
    }
}
