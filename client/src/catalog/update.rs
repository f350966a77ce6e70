//! UpdateModel: changes the fields that its mask names.
//!
//! Invariant: a setter puts its value and its path together, so that nothing is cleared that no setter
//! named.

use std::time::Duration;

use prost_types::FieldMask;

use crate::{
    call::{self, UnaryCall},
    client::Client,
    convert::to_proto_duration,
    error::Error,
    v1::{
        DataType, GenerationDefaults, KvCache, Model, ModelSpec, RestartPolicy, Sampling,
        UpdateModelRequest, UpdateModelResponse, catalog_service, kv_cache,
    },
};

/// Changes fields of an entry. Made by [`Client::update_model`].
///
/// Generation defaults, limits, labels, names and policies hold from the next request on. What the
/// engine was built from takes a reload: the answer's `reload_required` says so.
#[derive(Clone, Debug)]
#[must_use = "nothing is changed before `send`"]
pub struct UpdateModel {
    client: Client,
    request: UpdateModelRequest,
}

impl UpdateModel {
    pub(super) fn new(client: Client, model_id: String) -> Self {
        let model = Model {
            model_id,
            ..Default::default()
        };
        let request = UpdateModelRequest {
            model: Some(model),
            update_mask: Some(FieldMask::default()),
            ..Default::default()
        };
        Self { client, request }
    }

    /// Etag of the entry that the caller has seen. Required.
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.request.etag = etag.into();
        self
    }

    /// The whole spec; what it leaves out is cleared.
    pub fn spec(self, spec: ModelSpec) -> Self {
        self.field("spec", |model| model.spec = Some(spec))
    }

    /// Only these fields of `spec`, by their paths such as "description" or
    /// "generation_defaults.max_tokens"; what `spec` leaves out of them is cleared.
    pub fn spec_fields(
        mut self,
        spec: ModelSpec,
        paths: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        for path in paths {
            self = self.path(format!("spec.{}", path.as_ref()));
        }
        self.model().spec = Some(spec);
        self
    }

    /// All other names of the model. They are no part of the etag.
    pub fn aliases(self, aliases: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let aliases: Vec<String> = aliases.into_iter().map(Into::into).collect();
        self.field("aliases", |model| model.aliases = aliases)
    }

    /// Any field: puts `path`, relative to [`Model`], into the mask and sets its value with `set`.
    pub fn field(mut self, path: impl Into<String>, set: impl FnOnce(&mut Model)) -> Self {
        set(self.model());
        self.path(path.into())
    }

    /// Name for people, at most 256 characters. Empty: none.
    pub fn display_name(self, name: impl Into<String>) -> Self {
        self.in_spec("display_name", |spec| spec.display_name = name.into())
    }

    /// Free text for people, at most 4,096 characters. Empty: none.
    pub fn description(self, text: impl Into<String>) -> Self {
        self.in_spec("description", |spec| spec.description = text.into())
    }

    /// All labels, at most 64. For single ones there is [`Client::edit_model`].
    pub fn labels(
        self,
        labels: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let labels = labels
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()));
        self.in_spec("labels", |spec| spec.labels = labels.collect())
    }

    /// Device to load on: "auto", "cpu", "cuda", "cuda:ORDINAL" or "cuda:UUID".
    pub fn device(self, device: impl Into<String>) -> Self {
        self.in_spec("device", |spec| spec.device = device.into())
    }

    /// Data type of the weights in memory. Unspecified: the server's choice for the model and its device.
    pub fn dtype(self, dtype: DataType) -> Self {
        self.in_spec("dtype", |spec| spec.set_dtype(dtype))
    }

    /// In-situ quantization while loading, for example "q4k". Empty: none.
    pub fn quantization(self, quantization: impl Into<String>) -> Self {
        self.in_spec("quantization", |spec| {
            spec.quantization = quantization.into();
        })
    }

    /// Longest sequence of prompt and answer in tokens. Zero: as long as the model allows.
    pub fn context_length(self, tokens: u32) -> Self {
        self.in_spec("context_length", |spec| spec.context_length = tokens)
    }

    /// How many requests run at the same time. Zero: the server's default.
    pub fn max_concurrency(self, requests: u32) -> Self {
        self.in_spec("max_concurrency", |spec| spec.max_concurrency = requests)
    }

    /// Size of the KV cache on a GPU. `None`: what the requests that run at the same time may need.
    pub fn kv_cache(self, size: impl Into<Option<kv_cache::Size>>) -> Self {
        self.in_spec("kv_cache", |spec| {
            spec.kv_cache = size.into().map(|size| KvCache { size: Some(size) });
        })
    }

    /// How many further requests may wait. `None`: the server's default; zero: none waits.
    pub fn max_queue(self, requests: impl Into<Option<u32>>) -> Self {
        self.in_spec("max_queue", |spec| spec.max_queue = requests.into())
    }

    /// What a Generate call gets where it does not say otherwise; all of it.
    pub fn generation_defaults(self, defaults: GenerationDefaults) -> Self {
        self.in_spec("generation_defaults", |spec| {
            spec.generation_defaults = Some(defaults);
        })
    }

    /// Temperature where a call gives none. `None`: the model's own.
    pub fn temperature(self, temperature: impl Into<Option<f32>>) -> Self {
        self.in_sampling("temperature", |sampling| {
            sampling.temperature = temperature.into();
        })
    }

    /// `top_p` where a call gives none. `None`: the model's own.
    pub fn top_p(self, top_p: impl Into<Option<f32>>) -> Self {
        self.in_sampling("top_p", |sampling| sampling.top_p = top_p.into())
    }

    /// Longest answer in tokens where a call does not say. Zero: what the context leaves.
    pub fn max_tokens(self, tokens: u32) -> Self {
        self.in_spec("generation_defaults.max_tokens", |spec| {
            spec.generation_defaults.get_or_insert_default().max_tokens = tokens;
        })
    }

    /// Unload after this time without a request. `None`: never.
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.in_spec("idle_timeout", |spec| {
            spec.idle_timeout = timeout.into().map(to_proto_duration);
        })
    }

    /// Whether the model is never evicted to make room.
    pub fn pinned(self, pinned: bool) -> Self {
        self.in_spec("pinned", |spec| spec.pinned = pinned)
    }

    /// Whether the server's readiness waits for the model, and unloading it needs force.
    pub fn required(self, required: bool) -> Self {
        self.in_spec("required", |spec| spec.required = required)
    }

    /// Whether to load when the server starts.
    pub fn preload(self, preload: bool) -> Self {
        self.in_spec("preload", |spec| spec.preload = preload)
    }

    /// Higher loads first and is evicted last. From -1,000 to 1,000; the default is 0.
    pub fn priority(self, priority: i32) -> Self {
        self.in_spec("priority", |spec| spec.priority = priority)
    }

    /// Whether a request for the model loads it.
    pub fn load_on_demand(self, on_demand: bool) -> Self {
        self.in_spec("load_on_demand", |spec| spec.load_on_demand = on_demand)
    }

    /// What happens when the worker dies or a load fails in a way that may pass.
    pub fn restart_policy(self, policy: RestartPolicy) -> Self {
        self.in_spec("restart_policy", |spec| spec.restart_policy = Some(policy))
    }

    /// Id that makes the call safe to repeat, also by another process. Default: one of its own.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request.request_id = request_id.into();
        self
    }

    /// Changes, and gives the entry after it. Tried again when the server cannot be reached.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with MODEL_NOT_FOUND, ETAG_REQUIRED, ETAG_MISMATCH (the current etag is in the
    /// [details](Error::details)' metadata), MODEL_DECLARED, MODEL_EXISTS for a taken alias, or
    /// INVALID_FIELD.
    pub async fn send(mut self) -> Result<UpdateModelResponse, Error> {
        call::ensure_request_id(&mut self.request.request_id);
        let call = UnaryCall {
            method: catalog_service::UPDATE_MODEL,
            deadline: Some(self.client.settings().timeout),
        };
        let stub = self.client.catalog_service();
        let send = |request| {
            let mut stub = stub.clone();
            async move { stub.update_model(request).await }
        };
        call.send(self.client.settings(), self.request, send).await
    }

    /// Only checks the call, and gives the entry as it would be.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); INVALID_FIELD lists every violation.
    pub async fn validate(mut self) -> Result<UpdateModelResponse, Error> {
        self.request.validate_only = true;
        self.send().await
    }

    fn in_spec(self, path: &str, set: impl FnOnce(&mut ModelSpec)) -> Self {
        self.field(format!("spec.{path}"), |model| {
            set(model.spec.get_or_insert_default());
        })
    }

    fn in_sampling(self, path: &str, set: impl FnOnce(&mut Sampling)) -> Self {
        let path = format!("generation_defaults.sampling.{path}");
        self.in_spec(&path, |spec| {
            let defaults = spec.generation_defaults.get_or_insert_default();
            set(defaults.sampling.get_or_insert_default());
        })
    }

    fn path(mut self, path: String) -> Self {
        let mask = self.request.update_mask.get_or_insert_default();
        if !mask.paths.contains(&path) {
            mask.paths.push(path);
        }
        self
    }

    fn model(&mut self) -> &mut Model {
        self.request.model.get_or_insert_default()
    }
}

/// Names of the fields in which two specs differ. Without one of them it does not compile.
macro_rules! differing {
    ($old:expr, $new:expr, $($field:ident)+) => {{
        // Of a literal the compiler says which field is missing; of a macro's pattern it does not.
        let _every_field = || ModelSpec { $($field: Default::default()),+ };
        [$((stringify!($field), $old.$field != $new.$field)),+]
    }};
}

/// Fields of a spec in which `new` differs from `old`.
pub(super) fn changed_fields(old: &ModelSpec, new: &ModelSpec) -> Vec<&'static str> {
    let fields = differing!(
        old, new,
        source display_name description provider languages capabilities labels kind format device
        dtype quantization adapters context_length max_concurrency max_queue chat_template tokenizer
        generation_defaults memory_hint idle_timeout pinned required preload priority load_on_demand
        restart_policy kv_cache
    );
    let changed = fields.into_iter().filter(|(_, differs)| *differs);
    changed.map(|(field, _)| field).collect()
}

#[cfg(test)]
mod tests;
