//! Specs as messages, both ways: the one place that fills in and reads every field.

mod adapters;
mod generation_defaults;
mod kv_cache;
mod restart_policy;
mod source;

use std::{str::FromStr, time::Duration};

use hangar_client::v1;

use super::{
    duration_message,
    kinds::{dtype_message, format_message, kind_message, read_dtype, read_format, read_kind},
    non_zero, text,
    violations::Violations,
};
use crate::model::{GenerationDefaults, MemoryHint, Source, Spec};

/// Requests that may run at the same time on one model, or wait for it.
const MAX_CONCURRENCY: u32 = 1024;
const MAX_QUEUE: u32 = 100_000;

/// Longest chat template in bytes.
const MAX_TEMPLATE: usize = 256 * 1024;

/// The spec that `message`, the field `prefix` of a request, describes. What is wrong with it is added to
/// `violations`; the spec is of use only if nothing is.
pub fn read_spec(message: &v1::ModelSpec, prefix: &str, violations: &mut Violations) -> Spec {
    let at = |field: &str| format!("{prefix}.{field}");
    check_texts(message, &at, violations);
    check_limits(message, &at, violations);
    let device = parsed(&message.device, &at("device"), violations);
    let kind = violations.check_result(&at("kind"), v1::ModelKind::try_from(message.kind));
    let format = violations.check_result(&at("format"), v1::ModelFormat::try_from(message.format));
    let dtype = violations.check_result(&at("dtype"), v1::DataType::try_from(message.dtype));
    let defaults = message.generation_defaults.as_ref();
    let defaults = defaults.map(|defaults| generation_defaults::read(defaults, &at, violations));
    let policy = message.restart_policy.as_ref();
    let restart_policy = policy.map(|policy| restart_policy::read(policy, &at, violations));
    let quantization = parsed(&message.quantization, &at("quantization"), violations);
    let tokenizer = (!message.tokenizer.is_empty())
        .then(|| source::path(&message.tokenizer, &at("tokenizer"), violations));
    let adapters = adapters::read(message, &at, violations);
    let tick = Duration::from_millis(10);
    let idle_timeout = violations.duration(&at("idle_timeout"), message.idle_timeout, tick);
    let kv_cache = kv_cache::read(message.kv_cache.as_ref(), &at("kv_cache"), violations);
    let source = source::read(message, &at, violations);
    Spec {
        display_name: message.display_name.clone(),
        description: message.description.clone(),
        provider: message.provider.clone(),
        languages: message.languages.clone(),
        capabilities: message.capabilities.clone(),
        labels: message.labels.clone(),
        kind: kind.and_then(read_kind),
        format: format.and_then(read_format),
        device,
        dtype: dtype.and_then(read_dtype),
        context_length: non_zero(message.context_length),
        max_concurrency: non_zero(message.max_concurrency),
        max_queue: message.max_queue,
        generation_defaults: defaults.unwrap_or_default(),
        restart_policy,
        quantization,
        adapters,
        chat_template: message.chat_template.clone(),
        tokenizer,
        memory_hint: message.memory_hint.map(read_memory_hint),
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

/// A spec as a message.
pub fn spec_message(spec: &Spec) -> v1::ModelSpec {
    v1::ModelSpec {
        source: Some(source::message(&spec.source)),
        display_name: spec.display_name.clone(),
        description: spec.description.clone(),
        provider: spec.provider.clone(),
        languages: spec.languages.clone(),
        capabilities: spec.capabilities.clone(),
        labels: spec.labels.clone().into_iter().collect(),
        kind: kind_message(spec.kind).into(),
        format: format_message(spec.format).into(),
        device: text(spec.device.as_ref()),
        dtype: dtype_message(spec.dtype).into(),
        context_length: spec.context_length.unwrap_or_default(),
        max_concurrency: spec.max_concurrency.unwrap_or_default(),
        max_queue: spec.max_queue,
        generation_defaults: (spec.generation_defaults != GenerationDefaults::default())
            .then(|| generation_defaults::message(&spec.generation_defaults)),
        restart_policy: spec.restart_policy.map(restart_policy::message),
        quantization: text(spec.quantization.as_ref()),
        adapters: spec.adapters.iter().map(adapters::message).collect(),
        chat_template: spec.chat_template.clone(),
        tokenizer: text(spec.tokenizer.as_ref().map(|path| path.display()).as_ref()),
        memory_hint: spec.memory_hint.map(memory_hint_message),
        idle_timeout: spec.idle_timeout.and_then(duration_message),
        pinned: spec.pinned,
        required: spec.required,
        preload: spec.preload,
        priority: spec.priority,
        load_on_demand: spec.load_on_demand,
        kv_cache: spec.kv_cache.map(kv_cache::message),
    }
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

fn read_memory_hint(message: v1::MemoryHint) -> MemoryHint {
    MemoryHint {
        host_bytes: message.host_bytes,
        device_bytes: message.device_bytes,
    }
}

fn memory_hint_message(hint: MemoryHint) -> v1::MemoryHint {
    v1::MemoryHint {
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
        text => violations.check_result(field, text.parse()),
    }
}

#[cfg(test)]
mod tests {
    mod limits;
    mod ranges;

    use std::sync::LazyLock;

    use hangar_client::v1::model_source;
    use prost::Message;
    use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage};

    use super::*;

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn full_defaults() -> v1::GenerationDefaults {
        v1::GenerationDefaults {
            sampling: Some(v1::Sampling {
                temperature: Some(0.0),
                top_p: Some(0.5),
                top_k: Some(3),
                min_p: Some(0.25),
                frequency_penalty: Some(1.0),
                presence_penalty: Some(-1.0),
                repetition_penalty: Some(1.5),
            }),
            max_tokens: 5,
            stop: vec!["s".to_owned()],
        }
    }

    fn full_policy() -> v1::RestartPolicy {
        v1::RestartPolicy {
            mode: v1::RestartMode::Always.into(),
            max_attempts: 2,
            initial_backoff: seconds(3),
            max_backoff: seconds(4),
            stable_period: seconds(5),
        }
    }

    /// A spec that says something in every field.
    fn full() -> v1::ModelSpec {
        let hub = v1::HuggingFaceSource {
            repository: "a/b".to_owned(),
            revision: "r".to_owned(),
            files: vec!["f".to_owned()],
        };
        let source = Some(model_source::Source::HuggingFace(hub));
        v1::ModelSpec {
            source: Some(v1::ModelSource { source }),
            display_name: "n".to_owned(),
            description: "d".to_owned(),
            provider: "p".to_owned(),
            languages: vec!["en".to_owned()],
            capabilities: vec!["c".to_owned()],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            kind: v1::ModelKind::Text.into(),
            format: v1::ModelFormat::Gguf.into(),
            device: "cuda:1".to_owned(),
            dtype: v1::DataType::F32.into(),
            quantization: "q4k".to_owned(),
            adapters: vec![v1::LoraAdapter {
                name: "l".to_owned(),
                path: "/l".to_owned(),
                demo: None,
            }],
            context_length: 128,
            max_concurrency: 2,
            max_queue: Some(0),
            chat_template: "t".to_owned(),
            tokenizer: "/t".to_owned(),
            generation_defaults: Some(full_defaults()),
            memory_hint: Some(v1::MemoryHint {
                host_bytes: 1,
                device_bytes: 2,
            }),
            idle_timeout: seconds(1),
            pinned: true,
            required: true,
            preload: true,
            priority: -1,
            load_on_demand: true,
            restart_policy: Some(full_policy()),
            kv_cache: Some(v1::KvCache {
                size: Some(v1::kv_cache::Size::MemoryShare(0.3)),
            }),
        }
    }

    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(v1::FILE_DESCRIPTOR_SET).expect("descriptors"));

    /// A spec whose fields can be gone through.
    fn dynamic(spec: &v1::ModelSpec) -> DynamicMessage {
        let kind = POOL.get_message_by_name("hangar.v1.ModelSpec").expect("it");
        DynamicMessage::decode(kind, &*spec.encode_to_vec()).expect("a spec")
    }

    #[bounded::test]
    fn every_field_of_a_spec_converts_both_ways() {
        let mut violations = Violations::default();
        let read = read_spec(&full(), "spec", &mut violations);
        assert!(violations.all().is_empty());
        let (given, back) = (dynamic(&full()), dynamic(&spec_message(&read)));
        for field in given.descriptor().fields() {
            let name = field.name();
            assert!(given.has_field(&field), "full() says nothing in {name}");
            let same = back.get_field(&field) == given.get_field(&field);
            assert!(same, "{name} is not given back as it was read");
        }
    }

    #[bounded::test]
    fn every_violation_is_reported_at_once() {
        let message = v1::ModelSpec {
            display_name: "x".repeat(257),
            device: "tpu".to_owned(),
            dtype: 99,
            max_concurrency: 1_000_000,
            ..v1::ModelSpec::default()
        };
        let mut violations = Violations::default();
        read_spec(&message, "spec", &mut violations);
        let violations = violations.all();
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

    #[bounded::test]
    fn relative_paths_are_refused() {
        let source = Some(model_source::Source::Path("models/m".to_owned()));
        let message = v1::ModelSpec {
            source: Some(v1::ModelSource { source }),
            ..v1::ModelSpec::default()
        };
        let mut violations = Violations::default();
        read_spec(&message, "spec", &mut violations);
        let violations = violations.all();
        let fields: Vec<_> = violations.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["spec.source.path"]);
    }
}
