//! The attributes of metrics, and what each may be.
//!
//! Invariant: every attribute of a metric is made here, of a value of the type that says how many there are.

use std::sync::Arc;

use hangar_client::code_name;
use opentelemetry::{KeyValue, Value};
use strum::{IntoStaticStr, VariantArray};
use tonic::Code;

use crate::model::{LoadOutcomeKind, LoadPhase, Operation, StateKind, SuspendCause};

/// An attribute that is made of a `V`.
#[derive(Debug)]
pub(super) struct Attribute<V> {
    /// As metrics declare it.
    pub(super) label: Label,
    value: fn(V) -> Value,
}

/// What a metric declares of an attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    /// Its key.
    pub(super) key: &'static str,
    /// What it may be.
    pub(super) values: Values,
}

/// What an attribute may be: of both there is a bound to how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// The ids of models.
    Models,
    /// One of so many.
    OneOf(usize),
}

/// Whose memory it is.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum MemoryType {
    Host,
    Device,
}

/// What tokens are of.
#[derive(Clone, Copy, Debug, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum TokenType {
    Prompt,
    Completion,
}

pub(super) const MODEL: Attribute<String> = models("model");
pub(super) const STATE: Attribute<StateKind> = one_of("state");
/// Of a load, or all of it.
pub(super) const PHASE: Attribute<Option<LoadPhase>> =
    some_of("phase", LoadPhase::VARIANTS.len() + 1, |phase| {
        phase.map_or("total", LoadPhase::name).into()
    });
pub(super) const OUTCOME: Attribute<LoadOutcomeKind> = one_of("outcome");
pub(super) const EVICTION_CAUSE: Attribute<SuspendCause> = some_of(
    "hangar.eviction.cause",
    SuspendCause::VARIANTS.len(),
    |cause| match cause {
        SuspendCause::Evicted => "memory".into(),
        SuspendCause::Idle => "idle".into(),
    },
);
pub(super) const MEMORY_TYPE: Attribute<MemoryType> = one_of("type");
pub(super) const TOKEN_TYPE: Attribute<TokenType> = one_of("type");
/// A model generates, from messages or a prompt, or it embeds.
pub(super) const OPERATION: Attribute<Operation> =
    some_of("gen_ai.operation.name", 2, |operation| {
        operation.name().into()
    });
pub(super) const PROVIDER: Attribute<()> =
    some_of("gen_ai.provider.name", 1, |()| "mistral.rs".into());
pub(super) const REQUEST_MODEL: Attribute<String> = models("gen_ai.request.model");
/// Reasons that requests of one model fail for: few of those that there are.
pub(super) const REQUEST_ERROR: Attribute<&'static str> = some_of("error.type", 8, Value::from);
pub(super) const RPC_SYSTEM: Attribute<()> = some_of("rpc.system.name", 1, |()| "grpc".into());
/// As many as a test finds in the descriptors, and more.
pub(super) const RPC_METHOD: Attribute<Arc<str>> = some_of("rpc.method", 100, Value::from);
pub(super) const RPC_STATUS: Attribute<Code> = some_of("rpc.response.status_code", 17, |code| {
    code_name(code).into()
});
/// The status again.
pub(super) const RPC_ERROR: Attribute<Code> =
    some_of("error.type", 1, |code| code_name(code).into());

const fn models(key: &'static str) -> Attribute<String> {
    let values = Values::Models;
    Attribute {
        label: Label { key, values },
        value: Value::from,
    }
}

/// As many values as there are variants.
const fn one_of<V: VariantArray + Into<&'static str>>(key: &'static str) -> Attribute<V> {
    some_of(key, V::VARIANTS.len(), |value| {
        let name: &'static str = value.into();
        name.into()
    })
}

/// So many values as `value` makes of all that there are.
const fn some_of<V>(key: &'static str, count: usize, value: fn(V) -> Value) -> Attribute<V> {
    let values = Values::OneOf(count);
    Attribute {
        label: Label { key, values },
        value,
    }
}

impl<V> Attribute<V> {
    /// It, with this value.
    pub(super) fn is(&self, value: V) -> KeyValue {
        KeyValue::new(self.label.key, (self.value)(value))
    }
}
