//! What is remarkable about a model.

use hangar_client::v1::{
    DesiredState, LearnedFacts, ModelInfo, ModelState, ModelStatus, SuspendReason,
};

use crate::table::{bytes, duration_text_of};

/// In a few words, for a table; empty where all is as it should be.
pub(super) fn notes(model: &ModelInfo) -> String {
    let mut notes = Vec::new();
    match model.suspend_reason() {
        SuspendReason::Unspecified => {}
        SuspendReason::Evicted => notes.push("evicted".to_owned()),
        SuspendReason::Idle => notes.push("unloaded when idle".to_owned()),
    }
    let state = model.status.as_ref().map(ModelStatus::state);
    let is_down = matches!(state, Some(ModelState::Unloaded | ModelState::Failed));
    if is_down && notes.is_empty() && model.desired_state() == DesiredState::Loaded {
        notes.push("to be loaded".to_owned());
    }
    match model.holders.len() {
        0 => {}
        1 => notes.push("held".to_owned()),
        holders => notes.push(format!("held by {holders}")),
    }
    if model.reload_required {
        notes.push("reload required".to_owned());
    }
    if let Some(fatal) = &model.fatal_prompt {
        notes.push(format!(
            "{} ended with {} tokens to read",
            fatal.reason, fatal.tokens
        ));
    }
    notes.join(", ")
}

/// What earlier loads have taught; empty where there were none.
pub(super) fn learned(facts: &LearnedFacts) -> String {
    let mut parts = Vec::new();
    if let Some(memory) = &facts.memory {
        parts.push(format!(
            "takes {}",
            bytes(memory.host_bytes + memory.device_bytes)
        ));
    }
    match duration_text_of(facts.load_duration.as_ref()) {
        time if time.is_empty() => {}
        time => parts.push(format!("loads in {time}")),
    }
    if facts.loads_succeeded + facts.loads_failed > 0 {
        parts.push(format!(
            "{} loads succeeded, {} failed",
            facts.loads_succeeded, facts.loads_failed
        ));
    }
    let pace = facts.pace.unwrap_or_default();
    if let Some(rate) = pace.prompt_tokens_per_second {
        parts.push(format!("reads {rate:.1} tokens/s"));
    }
    if let Some(rate) = pace.generated_tokens_per_second {
        parts.push(format!("makes {rate:.1} tokens/s"));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn a_model_that_is_as_it_should_be_has_no_notes() {
        let mut model = ModelInfo::default();
        assert_eq!(notes(&model), "");
        model.set_desired_state(DesiredState::Loaded);
        let status = model.status.get_or_insert_default();
        status.set_state(ModelState::Ready);
        assert_eq!(notes(&model), "");
    }

    #[bounded::test]
    fn a_pace_is_printed_as_far_as_it_was_measured() {
        let mut facts = LearnedFacts::default();
        assert_eq!(learned(&facts), "");
        let pace = facts.pace.get_or_insert_default();
        pace.prompt_tokens_per_second = Some(12.34);
        assert_eq!(learned(&facts), "reads 12.3 tokens/s");
    }

    #[bounded::test]
    fn what_differs_from_what_was_asked_for_is_noted() {
        let mut model = ModelInfo {
            holders: vec!["a".to_owned(), "b".to_owned()],
            reload_required: true,
            ..Default::default()
        };
        model.set_desired_state(DesiredState::Loaded);
        let status = model.status.get_or_insert_default();
        status.set_state(ModelState::Unloaded);
        assert_eq!(notes(&model), "to be loaded, held by 2, reload required");
        model.set_suspend_reason(SuspendReason::Evicted);
        assert_eq!(notes(&model), "evicted, held by 2, reload required");
    }
}
