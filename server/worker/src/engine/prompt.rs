//! From a request to the tokens of its prompt, checked against what the model can compute.
//!
//! What passes here cannot make the engine fail: prompts that are empty or too long and tokens outside of
//! the vocabulary would be raw tensor errors there, and hit other requests in the same batch.

use hangar_client::v1::{ChatMessage, Constraint, GenerateRequest};
use serde_json::{Map, Value};
use tonic::Status;

use crate::{
    calls::CallWatch,
    engine::{
        Engine,
        answer::TextMode,
        conversation::{Conversation, PlacedImage},
        image_prompt::ImagePrompt,
        json::json_object,
        tools::Tools,
    },
    status,
    vocabulary::SLICE,
};

/// Deepest nesting of template options.
const MAX_DEPTH: usize = 16;

/// A prompt that the engine can compute.
#[derive(Debug)]
pub(crate) struct Prompt {
    /// Its tokens: at least one.
    pub(crate) tokens: Vec<u32>,
    /// Longest answer in tokens: at least one.
    pub(crate) max_tokens: usize,
    /// What the answer's text is to the prompt's.
    pub(crate) text_mode: TextMode,
    /// What the engine gets in place of the tokens when there are images.
    pub(crate) image_prompt: Option<ImagePrompt>,
    /// What a call that has to be made conforms to.
    pub(crate) call: Option<Constraint>,
    /// Finds calls in the answer, if the request offers any functions.
    pub(crate) watch: Option<CallWatch>,
}

impl Engine {
    /// Makes and checks the prompt of a request. `default_max_tokens` is what the spec says where the
    /// request does not, or zero. Blocks for as long as the prompt is long.
    pub(crate) fn prompt(
        &self,
        request: &GenerateRequest,
        default_max_tokens: usize,
    ) -> Result<Prompt, Status> {
        let is_chat = !request.messages.is_empty();
        let Conversation { messages, images } = self.conversation(request)?;
        let tools = self.tools(request)?;
        let (tokens, text) = self.tokens(request, &messages, &images, &tools)?;
        let field = if is_chat { "messages" } else { "prompt" };
        self.check_tokens(field, &tokens)?;
        self.check_places(field, &tokens, &images)?;
        self.check_images_fit(field, &tokens, &images)?;
        let max_tokens = answer_length(
            field,
            self.context_for(tokens.len()),
            tokens.len(),
            request.max_tokens as usize,
        )?;
        let max_tokens = self.longest_answer(request, tokens.len(), max_tokens, default_max_tokens);
        // Only now, when everything else is right.
        let image_prompt = self.image_prompt(text, &images)?;
        Ok(Prompt {
            tokens,
            max_tokens,
            image_prompt,
            text_mode: match (
                request.constraint.as_ref().or(tools.constraint.as_ref()),
                is_chat,
            ) {
                (Some(_), _) => TextMode::Constrained,
                (None, true) => TextMode::NewText,
                (None, false) => TextMode::Continuation,
            },
            call: tools.constraint,
            watch: tools.watch,
        })
    }

    /// The tokens of a prompt or a conversation, and the text that the engine makes the same tokens of if there are
    /// images.
    fn tokens(
        &self,
        request: &GenerateRequest,
        messages: &[ChatMessage],
        images: &[PlacedImage<'_>],
        tools: &Tools,
    ) -> Result<(Vec<u32>, String), Status> {
        let refused = |why| Err(status::invalid_field("prompt", why));
        match (request.messages.is_empty(), request.prompt.is_empty()) {
            (false, true) => self.chat_tokens(request, messages, images, tools),
            (true, false) => Ok((self.encode("prompt", &request.prompt)?, String::new())),
            (false, false) => refused("give either prompt or messages, not both"),
            (true, true) => refused("give a prompt or messages"),
        }
    }

    /// Longest answer to a prompt of so many tokens, of which the context leaves `left`.
    fn longest_answer(
        &self,
        request: &GenerateRequest,
        prompt: usize,
        left: usize,
        default_max_tokens: usize,
    ) -> usize {
        let default = match default_max_tokens {
            0 => self.longest_by_model(prompt),
            default => Some(default),
        };
        match default {
            Some(default) if request.max_tokens == 0 => left.min(default),
            _ => left,
        }
    }

    /// The context of a sequence that begins with that many tokens.
    fn context_for(&self, prompt: usize) -> usize {
        match self.limits.switch {
            Some(switch) if prompt <= switch as usize => self.context_length.min(switch as usize),
            _ => self.context_length,
        }
    }

    /// Longest answer to a prompt of that many tokens by the model's generation config.
    fn longest_by_model(&self, prompt: usize) -> Option<usize> {
        let defaults = self.generation_defaults.as_ref()?;
        let whole = || defaults.max_length?.checked_sub(prompt);
        defaults.max_new_tokens.or_else(whole).filter(|n| *n > 0)
    }

    /// The tokens of a conversation in the model's chat template, and the text that the engine makes the
    /// same tokens of if there are images.
    fn chat_tokens(
        &self,
        request: &GenerateRequest,
        messages: &[ChatMessage],
        images: &[PlacedImage<'_>],
        tools: &Tools,
    ) -> Result<(Vec<u32>, String), Status> {
        let chat = self.chat.as_ref().map_err(|why| {
            status::unsupported_by_model(format!(
                "this model cannot take messages, since {why}; use prompt instead, or give the model \
                 a chat template"
            ))
        })?;
        let options = options(request)?;
        let rendered = chat.render(messages, &tools.functions, &options);
        let mut prompt = rendered.map_err(|why| {
            status::invalid_field(
                "messages",
                format!("the model's chat template refuses them: {why}"),
            )
        })?;
        if !tools.opening.is_empty() && prompt.trim_end().ends_with("<think>") {
            // A call that has to be made is not thought about.
            prompt.push_str("</think>\n\n");
        }
        prompt.push_str(tools.opening);
        if !images.is_empty() {
            return self.image_tokens(chat.bos_token.as_deref(), &prompt, images);
        }
        let mut tokens = self.encode_as("messages", &prompt, self.begins_chats)?;
        // A template that writes the token of a text's beginning meets a tokenizer that adds it.
        if let Some(bos) = &chat.bos_token
            && prompt.starts_with(bos.as_str())
            && let Some(bos) = self.vocabulary.token(bos)
            && tokens.starts_with(&[bos, bos])
        {
            tokens.remove(0);
        }
        Ok((tokens, prompt))
    }

    pub(super) fn encode(&self, field: &str, text: &str) -> Result<Vec<u32>, Status> {
        self.encode_as(field, text, true)
    }

    /// The tokens of a text, with those that the tokenizer puts around every text if `whole`.
    fn encode_as(&self, field: &str, text: &str, whole: bool) -> Result<Vec<u32>, Status> {
        let refused =
            |why| status::invalid_field(field, format!("the model's tokenizer refuses it: {why}"));
        let context = self.context_length;
        if text.len() > SLICE && self.vocabulary.is_beyond(text, context).map_err(refused)? {
            return Err(status::context_exceeded(
                field,
                format!(
                    "has {} bytes, which are far more tokens than the {context} of the model's context",
                    text.len()
                ),
            ));
        }
        self.vocabulary.encode(text, whole).map_err(refused)
    }

    /// Checks that a prompt with images can be computed at once: the engine puts them together by itself.
    fn check_images_fit(
        &self,
        field: &str,
        tokens: &[u32],
        images: &[PlacedImage<'_>],
    ) -> Result<(), Status> {
        match self.limits.at_once {
            Some(most) if !images.is_empty() && tokens.len() > most as usize => {
                Err(status::context_exceeded(
                    field,
                    format!(
                        "is {} tokens long, and with images the engine computes only prompts that are no longer \
                         than the model's sliding window of {most} tokens as the model has it",
                        tokens.len()
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_tokens(&self, field: &str, tokens: &[u32]) -> Result<(), Status> {
        if tokens.is_empty() {
            return Err(status::invalid_field(field, "has no tokens"));
        }
        let size = self.vocabulary.size();
        if let Some(token) = tokens.iter().find(|token| **token >= size) {
            return Err(status::invalid_field(
                field,
                format!(
                    "contains token {token}, which the tokenizer knows but the model with its \
                     vocabulary of {size} tokens does not"
                ),
            ));
        }
        Ok(())
    }
}

/// Longest answer that the context leaves; `asked` is zero where the caller left it open.
fn answer_length(
    field: &str,
    context: usize,
    prompt: usize,
    asked: usize,
) -> Result<usize, Status> {
    let left = context.saturating_sub(prompt);
    if left == 0 {
        return Err(status::context_exceeded(
            field,
            format!(
                "is {prompt} tokens long, which leaves no room for an answer in the model's context of \
                 {context} tokens"
            ),
        ));
    }
    if asked > left {
        return Err(status::context_exceeded(
            "max_tokens",
            format!(
                "{asked} and the prompt's {prompt} tokens are more than the model's context of {context} \
                 tokens; at most {left} are left"
            ),
        ));
    }
    Ok(if asked == 0 { left } else { asked })
}

/// The caller's variables for the chat template.
fn options(request: &GenerateRequest) -> Result<Map<String, Value>, Status> {
    let Some(options) = &request.chat_template_options else {
        return Ok(Map::new());
    };
    json_object(options, MAX_DEPTH)
        .ok_or_else(|| status::invalid_field("chat_template_options", "is nested too deeply"))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn an_answer_gets_what_was_asked_for_or_what_is_left() {
        let room = |prompt, asked| answer_length("prompt", 100, prompt, asked).ok();
        assert_eq!(room(90, 0), Some(10));
        assert_eq!(room(90, 10), Some(10));
        assert_eq!(room(90, 3), Some(3));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (prompt, asked) in [(100, 0), (101, 1), (90, 11), (0, usize::MAX)] {
            let refused = answer_length("prompt", 100, prompt, asked).expect_err("too long");
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    }
}
