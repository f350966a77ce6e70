//! From a request to the tokens of its prompt, checked against what the model can compute.
//!
//! What passes here cannot make the engine fail: prompts that are empty or too long and tokens outside of
//! the vocabulary would be raw tensor errors there, and hit other requests in the same batch.

use hangar_client::v1::{Constraint, GenerateRequest};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    engine::{
        Engine,
        answer::AnswerRules,
        chat_prompt::ChatPrompt,
        conversation::{Conversation, PlacedImage},
        image_prompt::ImagePrompt,
        reasoning::ReasoningParser,
        text_refusal::text_refused,
        tools::Tools,
    },
    grpc_error,
    vocabulary::{SLICE, TextMode},
};

/// A prompt that the engine can compute.
#[derive(Debug)]
pub(crate) struct Prompt {
    /// Its tokens: at least one.
    pub(crate) tokens: Vec<u32>,
    /// Longest answer in tokens: at least one.
    pub(crate) max_tokens: usize,
    /// How its answer is read.
    pub(crate) rules: AnswerRules,
    /// What the engine gets in place of the tokens when there are images.
    pub(crate) image_prompt: Option<ImagePrompt>,
    /// What a call that has to be made conforms to.
    pub(crate) call: Option<Constraint>,
    /// Log probabilities of the prompt's tokens, and of so many most likely ones with each; `None`: none.
    pub(crate) prompt_logprobs: Option<usize>,
}

impl Engine {
    /// Makes and checks the prompt of a request. `default_max_tokens` is what the spec says where the
    /// request does not, or zero. Blocks for as long as the prompt is long.
    pub(crate) fn prompt(
        &self,
        request: &GenerateRequest,
        default_max_tokens: usize,
        cancelled: &CancellationToken,
    ) -> Result<Prompt, Status> {
        let conversation = self.conversation(&request.messages)?;
        let mut tools = self.tools(request)?;
        let text = self.prompt_text(request, &conversation, &tools, cancelled)?;
        let (tokens, images) = (text.tokens, &conversation.images);
        let field = prompt_field(request);
        self.check_tokens(field, &tokens)?;
        self.check_places(field, &tokens, images)?;
        self.check_images_fit(field, &tokens, images)?;
        self.check_not_torn(field, tokens.len(), request.prompt_logprobs)?;
        let max_tokens = clamp_new_tokens(
            field,
            self.context_for(tokens.len()),
            tokens.len(),
            request.max_tokens as usize,
        )?;
        let max_tokens = self.max_new_tokens(request, tokens.len(), max_tokens, default_max_tokens);
        check_answer(request, max_tokens, &tools)?;
        let rules = AnswerRules {
            stops: request.stop.clone(),
            min_tokens: request.min_tokens,
            reasoning: self.reasoning_parser(request, &tools, &text.text),
            text_mode: text_mode(request, &tools),
            calls: tools.parser.take(),
        };
        // Only now, when everything else is right.
        let image_prompt = self.image_prompt(text.for_engine, images, cancelled)?;
        if request.prompt_logprobs && image_prompt.is_some() {
            let why = "is not possible with images";
            return Err(grpc_error::invalid_field("prompt_logprobs", why));
        }
        Ok(Prompt {
            tokens,
            max_tokens,
            image_prompt,
            rules,
            call: tools.constraint,
            prompt_logprobs: request
                .prompt_logprobs
                .then_some(request.top_logprobs as usize),
        })
    }

    /// The tokens of a prompt or a conversation, and its text.
    fn prompt_text(
        &self,
        request: &GenerateRequest,
        conversation: &Conversation<'_>,
        tools: &Tools,
        cancelled: &CancellationToken,
    ) -> Result<ChatPrompt, Status> {
        let given = [
            !request.messages.is_empty(),
            !request.prompt.is_empty(),
            !request.prompt_token_ids.is_empty(),
        ];
        let tokens = match given {
            [true, false, false] => {
                return self.chat_prompt(request, conversation, tools, cancelled);
            }
            [false, true, false] => self.encode("prompt", &request.prompt, cancelled)?,
            [false, false, true] => request.prompt_token_ids.clone(),
            _ => {
                let why = "give exactly one of prompt, prompt_token_ids and messages";
                return Err(grpc_error::invalid_field("prompt", why));
            }
        };
        Ok(ChatPrompt {
            tokens,
            text: String::new(),
            for_engine: String::new(),
        })
    }

    /// What separates the model's reasoning from its answer, where that is asked for and possible: a grammar counts from
    /// the first character.
    fn reasoning_parser(
        &self,
        request: &GenerateRequest,
        tools: &Tools,
        prompt: &str,
    ) -> Option<ReasoningParser> {
        let wanted = !request.messages.is_empty() && !request.keep_reasoning_in_text;
        let free = request.constraint.is_none() && tools.constraint.is_none();
        let format = self.reasoning.filter(|_| wanted && free)?;
        Some(format.parser(prompt))
    }

    /// Longest answer to a prompt of so many tokens, of which the context leaves `left`.
    fn max_new_tokens(
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
        match self.limits.rope_switch {
            Some(switch) if prompt <= switch as usize => self.context_length().min(switch as usize),
            _ => self.context_length(),
        }
    }

    /// Longest answer to a prompt of that many tokens by the model's generation config.
    fn longest_by_model(&self, prompt: usize) -> Option<usize> {
        let defaults = self.generation_defaults.as_ref()?;
        let whole = || defaults.max_length?.checked_sub(prompt);
        defaults.max_new_tokens.or_else(whole).filter(|n| *n > 0)
    }

    pub(super) fn encode(
        &self,
        field: &str,
        text: &str,
        cancelled: &CancellationToken,
    ) -> Result<Vec<u32>, Status> {
        self.encode_as(field, text, true, cancelled)
    }

    /// The tokens of a text, with those that the tokenizer puts around every text if `whole`.
    pub(super) fn encode_as(
        &self,
        field: &str,
        text: &str,
        whole: bool,
        cancelled: &CancellationToken,
    ) -> Result<Vec<u32>, Status> {
        let context = self.context_length();
        let is_beyond = text.len() > SLICE
            && self
                .vocabulary
                .is_beyond(text, context, cancelled)
                .map_err(|why| text_refused(field, why))?;
        if is_beyond {
            return Err(grpc_error::context_exceeded(
                field,
                format!(
                    "has {} bytes, which are far more tokens than the {context} of the model's context",
                    text.len()
                ),
            ));
        }
        self.vocabulary
            .encode(text, whole, cancelled)
            .map_err(|why| text_refused(field, why))
    }

    /// Checks that a prompt with images can be computed at once: the engine puts them together by itself.
    fn check_images_fit(
        &self,
        field: &str,
        tokens: &[u32],
        images: &[PlacedImage<'_>],
    ) -> Result<(), Status> {
        let most = self.max_prefill();
        if images.is_empty() || tokens.len() <= most {
            return Ok(());
        }
        Err(grpc_error::context_exceeded(
            field,
            format!(
                "is {} tokens long, and with images the engine computes only prompts that are no longer than the model's \
                 sliding window of {most} tokens as the model has it",
                tokens.len()
            ),
        ))
    }

    /// The longest prompt that is right when it is computed at once.
    pub(super) fn max_prefill(&self) -> usize {
        let most = self.limits.max_prefill;
        most.map_or(usize::MAX, |most| most as usize)
    }

    /// Checks that the factors of `longrope` are the same for all tokens of a prompt: the engine takes those for the
    /// length that a sequence has at the time.
    fn check_not_torn(&self, field: &str, prompt: usize, scored: bool) -> Result<(), Status> {
        let switch = self.limits.rope_switch.unwrap_or_default();
        let most = self.max_prefill();
        if self.limits.is_torn(prompt, most) {
            let why = format!(
                "is {prompt} tokens long, more than the {switch} at which the model changes how it encodes positions, and \
                 than its sliding window of {most}: the engine does not compute such prompts as the model has it"
            );
            return Err(grpc_error::context_exceeded(field, why));
        }
        if scored && self.limits.is_torn(prompt, 1) {
            let why = format!(
                "is not possible with a prompt of {prompt} tokens, which are more than the {switch} at which the model \
                 changes how it encodes positions"
            );
            return Err(grpc_error::invalid_field("prompt_logprobs", why));
        }
        Ok(())
    }

    pub(super) fn check_tokens(&self, field: &str, tokens: &[u32]) -> Result<(), Status> {
        if tokens.is_empty() {
            return Err(grpc_error::invalid_field(field, "has no tokens"));
        }
        let size = self.vocabulary.size();
        if let Some(token) = tokens.iter().find(|token| **token >= size) {
            return Err(grpc_error::invalid_field(
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

/// The field that has a request's prompt.
fn prompt_field(request: &GenerateRequest) -> &'static str {
    match (
        request.messages.is_empty(),
        request.prompt_token_ids.is_empty(),
    ) {
        (false, _) => "messages",
        (true, false) => "prompt_token_ids",
        (true, true) => "prompt",
    }
}

fn text_mode(request: &GenerateRequest, tools: &Tools) -> TextMode {
    let constraint = request.constraint.as_ref().or(tools.constraint.as_ref());
    match (constraint, request.messages.is_empty()) {
        (Some(_), _) => TextMode::Constrained,
        (None, false) => TextMode::NewText,
        (None, true) => TextMode::Continuation,
    }
}

/// Checks what a request says of its answer's end.
fn check_answer(request: &GenerateRequest, longest: usize, tools: &Tools) -> Result<(), Status> {
    if request.min_tokens as usize > longest {
        return Err(grpc_error::invalid_field(
            "min_tokens",
            format!("is more than the answer's longest length of {longest} tokens"),
        ));
    }
    let asked = [
        ("min_tokens", request.min_tokens > 0),
        ("ignore_eos", request.ignore_eos),
    ];
    let has_to = request.constraint.is_some() || tools.constraint.is_some();
    match asked.into_iter().find(|(_, asked)| *asked && has_to) {
        Some((field, _)) => Err(grpc_error::invalid_field(
            field,
            "is not possible with a constraint or a call that has to be made, which end by themselves",
        )),
        None => Ok(()),
    }
}

/// Longest answer that the context leaves; `asked` is zero where the caller left it open.
fn clamp_new_tokens(
    field: &str,
    context: usize,
    prompt: usize,
    asked: usize,
) -> Result<usize, Status> {
    let left = context.saturating_sub(prompt);
    if left == 0 {
        return Err(grpc_error::context_exceeded(
            field,
            format!(
                "is {prompt} tokens long, which leaves no room for an answer in the model's context of \
                 {context} tokens"
            ),
        ));
    }
    if asked > left {
        return Err(grpc_error::context_exceeded(
            "max_tokens",
            format!(
                "{asked} and the prompt's {prompt} tokens are more than the model's context of {context} \
                 tokens; at most {left} are left"
            ),
        ));
    }
    Ok(if asked == 0 { left } else { asked })
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[bounded::test]
    fn an_answer_gets_what_was_asked_for_or_what_is_left() {
        let length_for = |prompt, asked| clamp_new_tokens("prompt", 100, prompt, asked).ok();
        assert_eq!(length_for(90, 0), Some(10));
        assert_eq!(length_for(90, 10), Some(10));
        assert_eq!(length_for(90, 3), Some(3));
    }

    #[bounded::test]
    fn a_prompt_that_fills_the_context_is_refused_in_words() {
        let refused = clamp_new_tokens("prompt", 100, 100, 0).expect_err("too long");
        let words = "is 100 tokens long, which leaves no room for an answer in the model's context of 100 tokens";
        assert!(refused.message().contains(words), "{refused}");
    }

    #[bounded::test]
    fn what_does_not_fit_is_refused() {
        for (prompt, asked) in [(100, 0), (101, 1), (90, 11), (0, usize::MAX)] {
            let refused = clamp_new_tokens("prompt", 100, prompt, asked).expect_err("too long");
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    }
}
