//! The parts of messages: how many and how large they may be. Whether they are images, and whether the model
//! takes any, is for the worker to say.

use hangar_client::v1::{ChatMessage, content_part::Part};

use crate::rpc::validate::Violations;

/// Most parts of a request.
const MAX_PARTS: usize = 256;

/// Most images of a request. The worker's memory is counted for so many.
const MAX_IMAGES: usize = 8;

/// Most recordings of a request.
const MAX_AUDIO: usize = 4;

/// Bytes of all texts in parts.
pub(super) fn text_bytes(messages: &[ChatMessage]) -> usize {
    let parts = messages.iter().flat_map(|message| &message.parts);
    parts
        .map(|part| match &part.part {
            Some(Part::Text(text)) => text.len(),
            _ => 0,
        })
        .sum()
}

/// Takes note of what is wrong with the parts.
pub(super) fn check(messages: &[ChatMessage], violations: &mut Violations) {
    let (mut parts, mut images, mut audio) = (0, 0, 0);
    for (m, message) in messages.iter().enumerate() {
        let field = format!("messages[{m}].parts");
        let one = message.content.is_empty() || message.parts.is_empty();
        violations.check(one, &field, "give either content or parts, not both");
        parts += message.parts.len();
        for (p, part) in message.parts.iter().take(MAX_PARTS).enumerate() {
            let field = format!("{field}[{p}]");
            let (what, bytes) = match &part.part {
                None => {
                    violations.add(field, "give text, image or audio");
                    continue;
                }
                Some(Part::Text(_)) => continue,
                Some(Part::Image(bytes)) => {
                    images += 1;
                    ("image", bytes)
                }
                Some(Part::Audio(bytes)) => {
                    audio += 1;
                    ("audio", bytes)
                }
            };
            let field = format!("{field}.{what}");
            violations.check(!bytes.is_empty(), &field, "is empty");
            let by_user = message.role == "user";
            violations.check(
                by_user,
                &field,
                "only messages of role \"user\" may have one",
            );
        }
    }
    for (count, most, what) in [
        (parts, MAX_PARTS, "parts"),
        (images, MAX_IMAGES, "images"),
        (audio, MAX_AUDIO, "recordings"),
    ] {
        if count > most {
            let what = format!("a request may have at most {most} {what}; this one has {count}");
            violations.add("messages", what);
        }
    }
}

#[cfg(test)]
mod tests {
    use hangar_client::v1::ContentPart;

    use super::*;
    use crate::rpc::error::ApiError;

    fn wrong(message: ChatMessage) -> Vec<String> {
        let mut violations = Violations::default();
        check(&[message], &mut violations);
        match violations.finish().map_err(ApiError::from) {
            Ok(()) => Vec::new(),
            Err(ApiError::Invalid(violations)) => {
                violations.into_iter().map(|(field, _)| field).collect()
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn message(parts: Vec<Option<Part>>) -> ChatMessage {
        let parts = parts.into_iter().map(|part| ContentPart { part });
        ChatMessage {
            role: "user".into(),
            parts: parts.collect(),
            ..ChatMessage::default()
        }
    }

    fn image(bytes: &'static [u8]) -> Option<Part> {
        Some(Part::Image(bytes.into()))
    }

    fn text(text: &str) -> Option<Part> {
        Some(Part::Text(text.into()))
    }

    #[bounded::test]
    fn texts_and_images_up_to_the_limit_are_taken() {
        assert!(wrong(message(vec![text("a"), image(b"x"), text("")])).is_empty());
        assert!(wrong(message(vec![image(b"x"); MAX_IMAGES])).is_empty());
    }

    #[bounded::test]
    fn a_violation_names_its_field() {
        assert_eq!(wrong(message(vec![None])), ["messages[0].parts[0]"]);
        let empty = message(vec![text("a"), image(b"")]);
        assert_eq!(wrong(empty), ["messages[0].parts[1].image"]);
        let both = ChatMessage {
            content: "a".into(),
            ..message(vec![text("b")])
        };
        assert_eq!(wrong(both), ["messages[0].parts"]);
        let system = ChatMessage {
            role: "system".into(),
            ..message(vec![text("a"), image(b"x")])
        };
        assert_eq!(wrong(system), ["messages[0].parts[1].image"]);
    }

    #[bounded::test]
    fn parts_beyond_the_limits_are_refused() {
        let images = message(vec![image(b"x"); MAX_IMAGES + 1]);
        assert_eq!(wrong(images), ["messages"]);
        let texts = message(vec![text("a"); MAX_PARTS + 1]);
        assert_eq!(wrong(texts), ["messages"]);
        let audio = Some(Part::Audio(b"x".as_slice().into()));
        assert_eq!(wrong(message(vec![audio; MAX_AUDIO + 1])), ["messages"]);
    }
}
