//! Specs.

use std::{str::FromStr, time::Duration};

use hangar_client::v1;

use super::{
    Violations,
    adapters::adapters,
    kv_cache::kv_cache,
    refuse,
    source::{path, source},
};
use crate::{
    model::{
        DataType, Format, GenerationDefaults, MemoryHint, ModelKind, RestartMode, RestartPolicy,
        Source, Spec,
    },
    rpc::error::ApiError,
    wire,
};

/// Requests that may run at the same time on one model, or wait for it.
const MAX_CONCURRENCY: u32 = 1024;
const MAX_QUEUE: u32 = 100_000;

/// Longest chat template in bytes.
const MAX_TEMPLATE: usize = 256 * 1024;

/// The spec that `message`, the field `prefix` of a request, describes. What is wrong with it is added to
/// `violations`; the spec is of use only if nothing is.
pub(in crate::rpc) fn spec(
    message: &v1::ModelSpec,
    prefix: &str,
    violations: &mut Violations,
) -> Spec {
    let at = |field: &str| format!("{prefix}.{field}");
    check_texts(message, &at, violations);
    check_limits(message, &at, violations);
    let device = parsed(&message.device, &at("device"), violations);
    let kind = kind(message, &at, violations);
    let format = format(message, &at, violations);
    let dtype = dtype(message, &at, violations);
    let defaults = defaults(message, &at, violations);
    let restart_policy = message
        .restart_policy
        .as_ref()
        .map(|policy| restart(policy, &at, violations));
    let quantization = parsed(&message.quantization, &at("quantization"), violations);
    let tokenizer = (!message.tokenizer.is_empty())
        .then(|| path(&message.tokenizer, &at("tokenizer"), violations));
    let adapters = adapters(message, &at, violations);
    let tick = Duration::from_millis(10);
    let idle_timeout = violations.duration(&at("idle_timeout"), message.idle_timeout, tick);
    let kv_cache = kv_cache(message.kv_cache.as_ref(), &at("kv_cache"), violations);
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
        device,
        dtype,
        context_length: given(message.context_length),
        max_concurrency: given(message.max_concurrency),
        max_queue: message.max_queue,
        generation_defaults: defaults,
        restart_policy,
        quantization,
        adapters,
        chat_template: message.chat_template.clone(),
        tokenizer,
        memory_hint: message.memory_hint.as_ref().map(memory_hint),
        idle_timeout,
        pinned: message.pinned,
        required: message.required,
        preload: message.preload,
        priority: message.priority,
        load_on_demand: message.load_on_demand,
        kv_cache,
        source: source.unwrap_or(Source::Demo),
    }
}

/// Refuses what this server knows and cannot honour.
///
/// # Errors
///
/// The first such field.
pub(in crate::rpc) fn refuse_later_fields(spec: &v1::ModelSpec) -> Result<(), ApiError> {
    let later_kind = !matches!(
        spec.kind(),
        v1::ModelKind::Unspecified
            | v1::ModelKind::Text
            | v1::ModelKind::Multimodal
            | v1::ModelKind::Embedding
    );
    refuse(&[
        ("spec.kind", later_kind),
        ("spec.format", spec.format() == v1::ModelFormat::Uqff),
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

fn check_limits(spec: &v1::ModelSpec, at: &impl Fn(&str) -> String, violations: &mut Violations) {
    let concurrency = spec.max_concurrency <= MAX_CONCURRENCY;
    violations.check(concurrency, &at("max_concurrency"), "must be at most 1024");
    let queue = spec.max_queue.is_none_or(|queue| queue <= MAX_QUEUE);
    violations.check(queue, &at("max_queue"), "must be at most 100000");
    let template = spec.chat_template.len() <= MAX_TEMPLATE;
    violations.check(template, &at("chat_template"), "must have at most 256 KiB");
    let priority = (-1000..=1000).contains(&spec.priority);
    violations.check(priority, &at("priority"), "must be from -1000 to 1000");
}

fn kind(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<ModelKind> {
    let kind = violations.note(&at("kind"), v1::ModelKind::try_from(spec.kind))?;
    wire::kind_of(kind)
}

fn format(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<Format> {
    let format = violations.note(&at("format"), v1::ModelFormat::try_from(spec.format))?;
    wire::format_of(format)
}

fn dtype(
    spec: &v1::ModelSpec,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> Option<DataType> {
    let dtype = violations.note(&at("dtype"), v1::DataType::try_from(spec.dtype))?;
    wire::dtype_of(dtype)
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

fn memory_hint(hint: &v1::MemoryHint) -> MemoryHint {
    MemoryHint {
        host_bytes: hint.host_bytes,
        device_bytes: hint.device_bytes,
    }
}

/// What `text` says; empty, it is not given.
fn parsed<T: FromStr<Err: ToString>>(
    text: &str,
    field: &str,
    violations: &mut Violations,
) -> Option<T> {
    match text {
        "" => None,
        text => violations.note(field, text.parse()),
    }
}

/// Zero stands for a field that is not given.
fn given(value: u32) -> Option<u32> {
    (value != 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::model_source;

    use super::*;

    fn demo() -> v1::ModelSpec {
        let source = Some(model_source::Source::Demo(v1::DemoSource {}));
        v1::ModelSpec {
            source: Some(v1::ModelSource { source }),
            ..v1::ModelSpec::default()
        }
    }

    #[test]
    fn a_spec_converts_both_ways() {
        let message = v1::ModelSpec {
            display_name: "n".to_owned(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            dtype: v1::DataType::F32.into(),
            context_length: 128,
            max_queue: Some(0),
            kv_cache: Some(v1::KvCache {
                size: Some(v1::kv_cache::Size::MemoryShare(0.3)),
            }),
            generation_defaults: Some(v1::GenerationDefaults {
                max_tokens: 5,
                ..Default::default()
            }),
            ..demo()
        };
        let mut violations = Violations::default();
        let spec = spec(&message, "spec", &mut violations);
        violations.finish().expect("a good spec");
        assert_eq!(crate::rpc::convert::spec(&spec), message);
    }

    #[test]
    fn every_violation_is_reported_at_once() {
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
                format: v1::ModelFormat::Uqff.into(),
                ..demo()
            }),
            "spec.format"
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
