//! Specs.

use std::{path::PathBuf, time::Duration};

use hangar_client::v1::{self, model_source};

use super::{Violations, refuse};
use crate::{
    model::{DataType, Format, GenerationDefaults, Kind, RestartMode, RestartPolicy, Source, Spec},
    rpc::error::ApiError,
};

/// Requests that may run at the same time on one model, or wait for it.
const MAX_CONCURRENCY: u32 = 1024;
const MAX_QUEUE: u32 = 100_000;

/// The spec that `message`, the field `prefix` of a request, describes. What is wrong with it is added to
/// `violations`; the spec is of use only if nothing is.
pub(in crate::rpc) fn spec(
    message: &v1::ModelSpec,
    prefix: &str,
    violations: &mut Violations,
) -> Spec {
    let at = |field: &str| format!("{prefix}.{field}");
    check_texts(message, &at, violations);
    let concurrency = message.max_concurrency <= MAX_CONCURRENCY;
    violations.check(concurrency, &at("max_concurrency"), "must be at most 1024");
    let queue = message.max_queue.is_none_or(|queue| queue <= MAX_QUEUE);
    violations.check(queue, &at("max_queue"), "must be at most 100000");
    let device = matches!(message.device.as_str(), "" | "auto" | "cpu" | "cuda")
        || message.device.starts_with("cuda:");
    violations.check(
        device,
        &at("device"),
        "must be \"auto\", \"cpu\", \"cuda\" or \"cuda:\" and an ordinal or UUID",
    );
    let kind = kind(message, &at, violations);
    let format = format(message, &at, violations);
    let dtype = dtype(message, &at, violations);
    let defaults = defaults(message, &at, violations);
    let restart_policy = message
        .restart_policy
        .as_ref()
        .map(|policy| restart(policy, &at, violations));
    let source = source(message, &at, violations);
    Spec {
        display_name: message.display_name.clone(),
        description: message.description.clone(),
        provider: message.provider.clone(),
        languages: message.languages.clone(),
        capabilities: message.capabilities.clone(),
        labels: message.labels.clone(),
        kind,
        format,
        device: message.device.clone(),
        dtype,
        context_length: given(message.context_length),
        max_concurrency: given(message.max_concurrency),
        max_queue: message.max_queue,
        generation_defaults: defaults,
        restart_policy,
        ..Spec::of(source.unwrap_or(Source::Demo))
    }
}

/// Refuses what this server knows and cannot honour.
///
/// # Errors
///
/// The first such field.
pub(in crate::rpc) fn refuse_later_fields(spec: &v1::ModelSpec) -> Result<(), ApiError> {
    let source = spec
        .source
        .as_ref()
        .and_then(|source| source.source.as_ref());
    let hub = matches!(source, Some(model_source::Source::HuggingFace(_)));
    let later_kind = !matches!(
        spec.kind(),
        v1::ModelKind::Unspecified | v1::ModelKind::Text
    );
    refuse(&[
        ("spec.source.hugging_face", hub),
        ("spec.kind", later_kind),
        ("spec.format", spec.format() == v1::ModelFormat::Uqff),
        ("spec.device", spec.device.starts_with("cuda")),
        ("spec.quantization", !spec.quantization.is_empty()),
        ("spec.adapters", !spec.adapters.is_empty()),
        ("spec.chat_template", !spec.chat_template.is_empty()),
        ("spec.tokenizer", !spec.tokenizer.is_empty()),
        ("spec.memory_hint", spec.memory_hint.is_some()),
        ("spec.idle_timeout", spec.idle_timeout.is_some()),
        ("spec.pinned", spec.pinned),
        ("spec.required", spec.required),
        ("spec.preload", spec.preload),
        ("spec.priority", spec.priority != 0),
        ("spec.load_on_demand", spec.load_on_demand),
    ])
}

fn check_texts(spec: &v1::ModelSpec, at: &impl Fn(&str) -> String, violations: &mut Violations) {
    for (field, text, limit) in [
        ("display_name", &spec.display_name, 256),
        ("description", &spec.description, 4096),
        ("provider", &spec.provider, 256),
    ] {
        let right = text.chars().count() <= limit;
        violations.check(
            right,
            &at(field),
            &format!("must have at most {limit} characters"),
        );
    }
    for (field, texts) in [
        ("languages", &spec.languages),
        ("capabilities", &spec.capabilities),
    ] {
        let right = texts.len() <= 64
            && texts
                .iter()
                .all(|text| !text.is_empty() && text.len() <= 63);
        violations.check(
            right,
            &at(field),
            "must have at most 64 entries of 1 to 63 bytes",
        );
    }
    let labels = spec.labels.len() <= 64
        && spec
            .labels
            .iter()
            .all(|(key, value)| !key.is_empty() && key.len() <= 63 && value.len() <= 63);
    violations.check(
        labels,
        &at("labels"),
        "must have at most 64 entries with keys of 1 to 63 and values of up to 63 bytes",
    );
}

fn source(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<Source> {
    match spec
        .source
        .as_ref()
        .and_then(|source| source.source.as_ref())
    {
        Some(model_source::Source::Path(path)) => {
            let right = path.starts_with('/') && path.len() <= 4096 && !path.contains('\0');
            violations.check(
                right,
                &at("source.path"),
                "must be an absolute path of at most 4096 bytes",
            );
            Some(Source::Path(PathBuf::from(path)))
        }
        Some(model_source::Source::Demo(_)) => Some(Source::Demo),
        Some(model_source::Source::HuggingFace(_)) => None,
        None => {
            violations.add(at("source"), "is required: give path or demo");
            None
        }
    }
}

fn kind(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<Kind> {
    violations.note(&at("kind"), v1::ModelKind::try_from(spec.kind));
    (spec.kind() == v1::ModelKind::Text).then_some(Kind::Text)
}

fn format(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<Format> {
    match violations.note(&at("format"), v1::ModelFormat::try_from(spec.format))? {
        v1::ModelFormat::Safetensors => Some(Format::Safetensors),
        v1::ModelFormat::Gguf => Some(Format::Gguf),
        v1::ModelFormat::Unspecified | v1::ModelFormat::Uqff => None,
    }
}

fn dtype(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<DataType> {
    match violations.note(&at("dtype"), v1::DataType::try_from(spec.dtype))? {
        v1::DataType::Unspecified => None,
        v1::DataType::F32 => Some(DataType::F32),
        v1::DataType::F16 => Some(DataType::F16),
        v1::DataType::Bf16 => Some(DataType::Bf16),
    }
}

fn defaults(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> GenerationDefaults {
    let Some(defaults) = &spec.generation_defaults else {
        return GenerationDefaults::default();
    };
    violations.stops(&at("generation_defaults.stop"), &defaults.stop);
    GenerationDefaults {
        sampling: violations.sampling(
            &at("generation_defaults.sampling"),
            defaults.sampling.as_ref(),
        ),
        max_tokens: given(defaults.max_tokens),
        stop: defaults.stop.clone(),
    }
}

fn restart(
    policy: &v1::RestartPolicy,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> RestartPolicy {
    let default = RestartPolicy::default();
    violations.note(
        &at("restart_policy.mode"),
        v1::RestartMode::try_from(policy.mode),
    );
    let mode = match policy.mode() {
        v1::RestartMode::Never => RestartMode::Never,
        v1::RestartMode::Unspecified | v1::RestartMode::OnFailure => RestartMode::OnFailure,
        v1::RestartMode::Always => RestartMode::Always,
    };
    violations.check(
        policy.max_attempts <= 1000,
        &at("restart_policy.max_attempts"),
        "must be at most 1000",
    );
    let mut duration = |field: &str, duration, min| violations.duration(&at(field), duration, min);
    let tick = Duration::from_millis(10);
    RestartPolicy {
        mode,
        max_attempts: given(policy.max_attempts).unwrap_or(default.max_attempts),
        initial_backoff: duration(
            "restart_policy.initial_backoff",
            policy.initial_backoff,
            tick,
        )
        .unwrap_or(default.initial_backoff),
        max_backoff: duration("restart_policy.max_backoff", policy.max_backoff, tick)
            .unwrap_or(default.max_backoff),
        stable_period: duration("restart_policy.stable_period", policy.stable_period, tick)
            .unwrap_or(default.stable_period),
    }
}

/// Zero stands for a field that is not given.
fn given(value: u32) -> Option<u32> {
    (value != 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> v1::ModelSpec {
        let source = Some(model_source::Source::Demo(v1::DemoSource {}));
        v1::ModelSpec {
            source: Some(v1::ModelSource { source }),
            ..v1::ModelSpec::default()
        }
    }

    #[test]
    fn a_spec_goes_out_as_it_came_in() {
        let message = v1::ModelSpec {
            display_name: "n".to_owned(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            dtype: v1::DataType::F32.into(),
            context_length: 128,
            max_queue: Some(0),
            generation_defaults: Some(v1::GenerationDefaults {
                max_tokens: 5,
                ..Default::default()
            }),
            ..demo()
        };
        let mut violations = Violations::default();
        let spec = spec(&message, "spec", &mut violations);
        violations.finish().expect("a good spec");
        assert_eq!(crate::wire::spec(&spec), message);
    }

    #[test]
    fn every_violation_is_told_at_once() {
        let message = v1::ModelSpec {
            display_name: "x".repeat(257),
            device: "tpu".to_owned(),
            dtype: 99,
            max_concurrency: 1_000_000,
            ..v1::ModelSpec::default()
        };
        let mut violations = Violations::default();
        spec(&message, "spec", &mut violations);
        let Err(ApiError::Invalid(violations)) = violations.finish() else {
            panic!("accepted")
        };
        let fields: Vec<_> = violations.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.display_name",
                "spec.max_concurrency",
                "spec.device",
                "spec.dtype",
                "spec.source"
            ]
        );
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let refused = |message: v1::ModelSpec| match refuse_later_fields(&message) {
            Err(ApiError::NotImplemented(field)) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(v1::ModelSpec {
                pinned: true,
                ..demo()
            }),
            "spec.pinned"
        );
        assert_eq!(
            refused(v1::ModelSpec {
                quantization: "q4k".to_owned(),
                ..demo()
            }),
            "spec.quantization"
        );
        assert_eq!(
            refused(v1::ModelSpec {
                device: "cuda:0".to_owned(),
                ..demo()
            }),
            "spec.device"
        );
    }

    #[test]
    fn relative_paths_are_refused() {
        let source = Some(model_source::Source::Path("models/m".to_owned()));
        let message = v1::ModelSpec {
            source: Some(v1::ModelSource { source }),
            ..demo()
        };
        let mut violations = Violations::default();
        spec(&message, "spec", &mut violations);
        assert!(matches!(violations.finish(), Err(ApiError::Invalid(_))));
    }
}
