//! A request as the engine takes it.

use std::sync::Arc;

use either::Either;
use mistralrs::core::{
    CustomLogitsProcessor, NormalRequest, RequestMessage, Response, SamplingParams, StopTokens,
};
use tokio::sync::mpsc;

use crate::engine::{image_prompt::ImagePrompt, prompt::Prompt};

/// A request for at most `steps` tokens, which `hook` chooses; `end` ends it before.
pub(super) fn engine_request(
    id: usize,
    prompt: Prompt,
    steps: usize,
    end: Option<u32>,
    hook: Arc<dyn CustomLogitsProcessor>,
    responses: mpsc::Sender<Response>,
) -> NormalRequest {
    let message = match prompt.image_prompt {
        Some(image_prompt) => with_images(image_prompt),
        None => RequestMessage::CompletionTokens(prompt.tokens),
    };
    // The hook leaves one token to choose, which the engine does greedily.
    let sampling = SamplingParams {
        temperature: Some(0.0),
        max_len: Some(steps),
        stop_toks: end.map(|end| StopTokens::Ids(vec![end])),
        ..SamplingParams::neutral()
    };
    let mut request = NormalRequest::new_simple(message, sampling, responses, id, None, None);
    request.is_streaming = true;
    request.logits_processors = Some(vec![hook]);
    request
}

/// What the engine has to compute before the first token, in tokens: a patch of an image counts as one.
pub(super) fn work(prompt: &Prompt) -> usize {
    let patches = prompt
        .image_prompt
        .as_ref()
        .map_or(0, |image_prompt| image_prompt.patches);
    prompt.tokens.len() + patches
}

/// A conversation of one message, which the engine's chat template leaves as it is.
fn with_images(image_prompt: ImagePrompt) -> RequestMessage {
    let role = ("role".to_owned(), Either::Left("user".to_owned()));
    let content = ("content".to_owned(), Either::Left(image_prompt.text));
    RequestMessage::MultimodalChat {
        images: image_prompt.images,
        audios: Vec::new(),
        videos: Vec::new(),
        messages: vec![[role, content].into_iter().collect()],
        enable_thinking: None,
        reasoning_effort: None,
    }
}
