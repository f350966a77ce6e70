//! Defaults of requests as messages, both ways.

use hangar_client::v1;

use crate::{
    model::{GenerationDefaults, Sampling},
    wire::{non_zero, sampling::sampling_message, violations::Violations},
};

pub(super) fn read(
    message: &v1::GenerationDefaults,
    at: &impl Fn(&str) -> String,
    violations: &mut Violations,
) -> GenerationDefaults {
    violations.stops(&at("generation_defaults.stop"), &message.stop);
    let field = at("generation_defaults.sampling");
    GenerationDefaults {
        sampling: violations.sampling(&field, message.sampling.as_ref()),
        max_tokens: non_zero(message.max_tokens),
        stop: message.stop.clone(),
    }
}

pub(super) fn message(defaults: &GenerationDefaults) -> v1::GenerationDefaults {
    v1::GenerationDefaults {
        sampling: (defaults.sampling != Sampling::default())
            .then(|| sampling_message(&defaults.sampling)),
        max_tokens: defaults.max_tokens.unwrap_or_default(),
        stop: defaults.stop.clone(),
    }
}
