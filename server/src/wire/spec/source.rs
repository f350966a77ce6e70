//! Where a model's files come from, as messages, both ways.

use std::path::PathBuf;

use hangar_client::v1::{self, model_source};

use crate::{
    model::{HubSource, Source},
    wire::violations::Violations,
};

pub(super) fn read(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<Source> {
    match spec
        .source
        .as_ref()
        .and_then(|source| source.source.as_ref())
    {
        Some(model_source::Source::Path(given)) => {
            Some(Source::Path(path(given, &at("source.path"), violations)))
        }
        Some(model_source::Source::Demo(_)) => Some(Source::Demo),
        Some(model_source::Source::HuggingFace(hub)) => {
            hub_source(hub, at, violations).map(Source::HuggingFace)
        }
        None => {
            violations.add(at("source"), "is required: give path, hugging_face or demo");
            None
        }
    }
}

pub(super) fn path(path: &str, field: &str, violations: &mut Violations) -> PathBuf {
    let right = path.starts_with('/') && path.len() <= 4096 && !path.contains('\0');
    violations.check(
        right,
        field,
        "must be an absolute path of at most 4096 bytes",
    );
    PathBuf::from(path)
}

fn hub_source(
    hub: &v1::HuggingFaceSource,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<HubSource> {
    let field = at("source.hugging_face.repository");
    let repository = violations.check_result(&field, hub.repository.parse());
    let relative = |text: &str| {
        text.len() <= 255
            && !text.starts_with('/')
            && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b))
    };
    let revision = hub.revision.is_empty() || relative(&hub.revision);
    violations.check(
        revision,
        &at("source.hugging_face.revision"),
        "must be a branch, a tag or a commit",
    );
    let files = hub.files.len() <= 256 && hub.files.iter().all(|file| relative(file));
    violations.check(
        files,
        &at("source.hugging_face.files"),
        "must have at most 256 relative paths of letters, digits and ._/-",
    );
    Some(HubSource {
        repository: repository?,
        revision: if hub.revision.is_empty() {
            "main".to_owned()
        } else {
            hub.revision.clone()
        },
        files: hub.files.clone(),
    })
}

pub(super) fn message(source: &Source) -> v1::ModelSource {
    let source = match source {
        Source::Path(path) => model_source::Source::Path(path.display().to_string()),
        Source::HuggingFace(hub) => model_source::Source::HuggingFace(v1::HuggingFaceSource {
            repository: hub.repository.to_string(),
            revision: hub.revision.clone(),
            files: hub.files.clone(),
        }),
        Source::Demo => model_source::Source::Demo(v1::DemoSource {}),
    };
    v1::ModelSource {
        source: Some(source),
    }
}
